"""Lets one large text at a time to llama.cpp's tokenizer, whose listener has two threads: one is left for small ones.

It knows no text and no server.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from deployments.llm.engines.ports import QueueFullError

LARGE: Final = 64 * 1024
"""Characters, or tokens, beyond which a text is large: a tenth of a second on an idle machine, 2 s for a million."""
_SECONDS: Final = 5.0
_MOST_WAITING: Final = 4


class LargeTexts:
    """Safe in several threads. A large text waits `seconds` at most, and no more than so many wait."""

    def __init__(self, *, seconds: float = _SECONDS, most_waiting: int = _MOST_WAITING) -> None:
        self._seconds = seconds
        self._turn = threading.Lock()
        self._places = threading.Semaphore(1 + most_waiting)

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """Within it a text of that size may be read. Raises QueueFullError."""
        if size <= LARGE:
            yield
            return
        if not self._places.acquire(blocking=False):
            raise _refuse()
        try:
            if not self._turn.acquire(timeout=self._seconds):
                raise _refuse()
            try:
                yield
            finally:
                self._turn.release()
        finally:
            self._places.release()


def _refuse() -> QueueFullError:
    return QueueFullError(
        f"Other texts of more than {LARGE} characters are being read; try again in a moment."
    )
