"""How the stack tells of its progress: lines with times, or a live table in a terminal.

It knows no component but by name, and decides nothing.
"""

import sys
import time
from collections.abc import Sequence
from typing import Protocol


class Report(Protocol):
    """Told what happens, as it happens."""

    def say(self, text: str) -> None:
        """A phase or a finding, in one line."""

    def progress(self, text: str) -> None:
        """How far one long step is; often called, so not every call is shown."""

    def begin(self, names: Sequence[str]) -> None:
        """Components of these names are about to start."""

    def update(self, name: str, state: str, seconds: float) -> None:
        """A component is now in this state, `seconds` after its start (waiting, starting, ready, failed)."""

    def end(self) -> None:
        """No more updates until the next `begin`."""


PROGRESS_SECONDS = 10.0


class PlainReport:
    """A line for each change, with the time since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._states: dict[str, str] = {}
        self._shown = -PROGRESS_SECONDS

    def progress(self, text: str) -> None:
        if time.monotonic() - self._shown >= PROGRESS_SECONDS:
            self._shown = time.monotonic()
            self.say(text)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:6.1f} s] {text}", flush=True)

    def begin(self, names: Sequence[str]) -> None:
        self._states = dict.fromkeys(names, "waiting")

    def update(self, name: str, state: str, seconds: float) -> None:
        if self._states.get(name) == state:
            return
        self._states[name] = state
        if state == "ready":
            ready = sum(value == "ready" for value in self._states.values())
            self.say(f"{name} ready after {seconds:.1f} s ({ready}/{len(self._states)})")
        elif state != "waiting":
            self.say(f"{name} {state}")

    def end(self) -> None:
        self._states = {}


def make_report() -> Report:
    """The live table in a terminal, plain lines elsewhere."""
    if sys.stdout.isatty():
        from stack.live_report import LiveReport

        return LiveReport()
    return PlainReport()
