"""How a request is cut into batches, and whose batch is next.

It knows no model.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from deployments.llm.engines.ports import QueueFullError

_PATIENCE: Final = 120.0
"""Seconds; one batch takes a fraction of one."""


def plan_batches(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of what is computed together, by length, so that padding is little.

    A batch has at most `max_tokens` with its padding, or one row: its memory does not grow with the request.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # In order of length the newcomer is the longest.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


class Turns:
    """Lets callers in one at a time, in the order in which they came.

    Who has many batches to compute takes a turn for each, so nobody waits for all of another's.
    """

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience, self._busy = patience, False
        self._lock, self._waiting = threading.Lock(), deque[threading.Event]()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Waits for a turn, and has it inside. Raises QueueFullError where none comes."""
        mine = threading.Event()
        with self._lock:
            if self._busy:
                self._waiting.append(mine)
            else:
                self._busy = True
                mine.set()
        if not mine.wait(self._patience):
            with self._lock:
                if not mine.is_set():  # it may have come since
                    self._waiting.remove(mine)
                    raise QueueFullError("Too many requests wait for this model; try again later.")
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._busy = False
