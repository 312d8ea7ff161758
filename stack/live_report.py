"""The live table of a start: one row a component, its state and its seconds.

It knows no component but by name, and decides nothing.
"""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.status import Status
from rich.table import Table

STYLES = {"ready": "green", "starting": "yellow", "running": "yellow", "failed": "bold red", "waiting": "dim"}
MARKS = {"ready": "✓", "starting": "…", "running": "…", "failed": "✗", "waiting": "·"}


class LiveReport:
    """Redraws itself ten times a second while components start."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._began = time.monotonic()
        self._rows: dict[str, tuple[str, float, float]] = {}
        self._live: Live | None = None
        self._status: Status | None = None

    def progress(self, text: str) -> None:
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def say(self, text: str) -> None:
        self._end_progress()
        self._console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {text}")

    def _end_progress(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None

    def begin(self, names: Sequence[str]) -> None:
        self._end_progress()
        self._rows = {name: ("waiting", 0.0, time.monotonic()) for name in names}
        self._live = Live(
            get_renderable=self._draw, console=self._console, refresh_per_second=10, transient=True
        )
        self._live.start()

    def update(self, name: str, state: str, seconds: float) -> None:
        self._rows[name] = (state, seconds, time.monotonic())

    def end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._console.print(self._draw())

    def _draw(self) -> Table:
        table = Table(box=None, padding=(0, 2), show_header=False)
        for name, (state, seconds, at) in self._rows.items():
            moving = state in {"starting", "running"}
            shown = seconds + (time.monotonic() - at if moving else 0)
            time_text = f"{shown:.1f} s" if shown else ""
            table.add_row(MARKS.get(state, "·"), name, state, time_text, style=STYLES.get(state, ""))
        return table
