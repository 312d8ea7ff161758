"""What every guard has: an engine behind it, work that is bounded and may end before its time, and counters.

It knows no role.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from deployments.llm.engines.ports import Engine, EngineError, Usage
from deployments.llm.metrics import Metrics
from deployments.llm.work import Floor, StoppingError, Work

_ITEMS: Final = 32
"""Texts that are embedded, and documents ranked, before it is looked whether somebody still waits for them."""
_Part = TypeVar("_Part")


class Guard(Engine):
    """An engine over another one."""

    def __init__(self, engine: Engine) -> None:
        self._guarded = engine

    def load(self) -> None:
        self._guarded.load()

    @property
    def ready(self) -> bool:
        return self._guarded.ready

    @property
    def failure(self) -> str | None:
        return self._guarded.failure

    def close(self) -> None:
        self._guarded.close()


class Reason:
    """Why work ends before its time, once it does; said from any thread."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.error: Exception | None = None
        self._then = then

    def __call__(self, error: Exception) -> None:
        self.error = self.error or error
        self._then()

    def check(self) -> None:
        """Raises the reason as an engine's error."""
        if isinstance(self.error, EngineError):
            raise self.error
        if self.error:
            raise StoppingError(f"The work was stopped: {self.error}.")


@contextmanager
def take_up(floor: Floor) -> Iterator[tuple[Work, Reason]]:
    """One piece of work on the floor. Raises QueueFullError."""
    reason = Reason()
    work = floor.begin(reason)
    try:
        yield work, reason
    except BaseException:
        floor.end(work, whole=False)
        raise
    floor.end(work, whole=True)


def split(items: Sequence[_Part]) -> Iterator[Sequence[_Part]]:
    """Parts of a few; one at least, so that an empty list is looked at too."""
    for start in range(0, max(1, len(items)), _ITEMS):
        yield items[start : start + _ITEMS]


def name_key(work: Work) -> str:
    """The name of the key that it is done for."""
    return work.notes.key if work.notes else "-"


def note(metrics: Metrics, work: Work, model: str, usage: Usage) -> None:
    """Counts tokens, for the request and for all."""
    if work.notes:
        work.notes.add(model, usage.prompt_tokens, usage.completion_tokens)
    for kind, count in (
        ("prompt", usage.prompt_tokens),
        ("cached", usage.cached_tokens),
        ("completion", usage.completion_tokens),
    ):
        if count:
            metrics.tokens.labels(model, kind, name_key(work)).inc(count)
