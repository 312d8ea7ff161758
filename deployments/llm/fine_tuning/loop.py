"""A background thread that does one thing again and again, now and then or as soon as it is woken."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Loop:
    """`work` says how many seconds may pass until it is called again; an error of it is logged, and it goes on."""

    def __init__(self, name: str, work: Callable[[], float]) -> None:
        self._work = work
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop: long work looks at it."""
        return self._stopping.is_set()

    @property
    def alive(self) -> bool:
        """Whether it works; not before its start."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begins in the background."""
        self._thread.start()

    def wake(self) -> None:
        """Has the work done now rather than at its time."""
        self._wake.set()

    def stop(self, seconds: float) -> None:
        """Waits so long at most for the work that is under way."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause = self._work()
            except Exception:
                log.exception("%s met an error; it goes on", self._thread.name)
                pause = 1.0
                self._stopping.wait(pause)
            self._wake.wait(pause)
            self._wake.clear()
