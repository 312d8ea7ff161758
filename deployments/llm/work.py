"""Work in flight for requests: how much there may be, how long it may take, and when it is worth asking again.

It knows no engine and no HTTP.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from deployments.llm.engines.ports import EngineError, QueueFullError
from deployments.llm.request_notes import RequestNotes, get_notes
from deployments.llm.settings import LlmSettings

_OTHER_THREADS: Final = 40
_RECENT: Final = 20
_FIRST_GUESS: Final = 2
_LONGEST_WAIT: Final = 60
"""OpenAI's clients don't wait longer for another try."""


class RequestTimeoutError(EngineError):
    """The work took longer than any may."""


class StoppingError(EngineError):
    """The server stops."""


def estimate_wait(in_flight: int, parallel: int, recent: Sequence[float]) -> int:
    """Seconds until as much has ended as waits now, 1 to 60; `recent` are the seconds that work took lately.

    Without any it is two.
    """
    if not recent:
        return _FIRST_GUESS
    waiting = max(1, in_flight - parallel)
    return min(_LONGEST_WAIT, max(1, math.ceil(median(recent) * waiting / parallel)))


@dataclass(eq=False)
class Work:
    """Something that runs for a request. `stop` is called with the reason once it has to end before its time."""

    stop: Callable[[Exception], None]
    deadline: float
    started: float
    notes: RequestNotes | None
    begun: bool = False
    """Whether the first of its results was seen: it waits no more."""


class Floor:
    """All work of one kind. `most` may be in flight, where that is told; `parallel` of it is done at once."""

    def __init__(self, *, parallel: int, seconds: float, most: int | None = None) -> None:
        self._parallel, self._seconds, self._most = parallel, seconds, most
        self._lock, self._work = threading.Lock(), set[Work]()
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def begin(self, stop: Callable[[Exception], None]) -> Work:
        """Takes up work for the request in the context, whose time runs already. Raises QueueFullError."""
        now, notes = time.monotonic(), get_notes()
        work = Work(stop, (notes.started if notes else now) + self._seconds, now, notes)
        with self._lock:
            full = self._most is not None and len(self._work) >= self._most
            if not full:
                self._work.add(work)
        if full:
            raise self.refuse(
                QueueFullError(f"{self._most} such requests run or wait; try again in a moment.")
            )
        if notes:
            notes.when_abandoned(stop)
        return work

    def refuse(self, error: QueueFullError) -> QueueFullError:
        """The same error, which now tells when to come again."""
        error.retry_after = estimate_wait(self.count, self._parallel, list(self._recent))
        return error

    def note_begun(self, work: Work) -> float:
        """Its first result is there; returns the seconds that it took."""
        work.begun = True
        return time.monotonic() - work.started

    def end(self, work: Work, *, whole: bool) -> bool:
        """It is done, or of no use any more; False where that is known. Whole work tells how long others take."""
        with self._lock:
            if work not in self._work:
                return False
            self._work.discard(work)
            if whole:
                self._recent.append(time.monotonic() - work.started)
            return True

    @property
    def count(self) -> int:
        """How much is in flight."""
        return len(self._work)

    @property
    def waiting(self) -> int:
        """How much of it has no result yet."""
        with self._lock:
            return sum(not work.begun for work in self._work)

    def end_late(self) -> None:
        """Ends what has taken too long."""
        now = time.monotonic()
        with self._lock:
            late = [work for work in self._work if work.deadline <= now]
        for work in late:
            work.stop(
                RequestTimeoutError(f"The request took longer than {self._seconds:g} s and was stopped.")
            )


@dataclass(frozen=True)
class Floors:
    """The work in flight, by what does it."""

    chat: Floor
    scoring: Floor
    embedding: Floor
    rerank: Floor

    def all(self) -> Mapping[str, Floor]:
        """By name."""
        return vars(self)


def build_floors(settings: LlmSettings) -> Floors:
    """How much work of each kind there may be; the chat engine bounds its own."""
    seconds, most = settings.llm_request_timeout, settings.llm_max_embedding_queue
    return Floors(
        chat=Floor(parallel=settings.llm_max_batch, seconds=seconds),
        scoring=Floor(parallel=1, seconds=seconds, most=most),
        embedding=Floor(parallel=1, seconds=seconds, most=most),
        rerank=Floor(parallel=1, seconds=seconds, most=most),
    )


def count_threads(settings: LlmSettings) -> int:
    """Threads for all of it at once, and for what is asked beside it."""
    return _OTHER_THREADS + settings.llm_max_queue + 3 * settings.llm_max_embedding_queue
