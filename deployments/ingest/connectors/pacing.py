"""How often one host is asked, by all tasks on this machine together.

It knows no HTTP. Each turn is reserved in a small file; the lock on it is held for no longer than that takes.
"""

import fcntl
import time
from collections.abc import Callable
from pathlib import Path

MAX_WAIT = 600.0
"""Seconds: a queue that is longer says that too much is asked; what a clock before a restart wrote is longer, too."""


class Pace:
    """Turns at a host, `interval` seconds apart. The clock is that of the machine since its start."""

    def __init__(
        self,
        file: Path,
        interval: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.interval = interval
        self._file, self._clock, self._sleep = file, clock, sleep

    def wait(self) -> None:
        """Returns when it is this caller's turn, after at most MAX_WAIT."""
        self.rest(self._reserve())

    def rest(self, seconds: float) -> None:
        """Does nothing for so long, at most MAX_WAIT."""
        if seconds > 0:
            self._sleep(min(seconds, MAX_WAIT))

    def _reserve(self) -> float:
        """Seconds until the next turn, which nobody else gets."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            now = self._clock()
            try:
                free = float(file.read() or now)
            except ValueError:
                free = now
            turn = max(now, free) if free - now <= MAX_WAIT else now
            file.truncate(0)
            file.write(repr(turn + self.interval))
        return turn - now
