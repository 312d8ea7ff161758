"""What Ghostwriter asks of a provider of fine-tuning jobs.

It knows no vendor, ledger or training set; `find_job` is what keeps a crash from buying a second job.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deployments.training.proposals import Order
from shared.llm.port import Message

SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
FINAL: Final = frozenset({SUCCEEDED, FAILED, CANCELLED})
KnowsModel = Callable[[str], bool]
"""Whether the provider has a model; True where it can't say."""


@dataclass(frozen=True, slots=True)
class TuningJob:
    """A job as the provider reports it; times are seconds since the epoch."""

    id: str
    status: str
    model: str
    created_at: int
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    trained_tokens: int | None = None
    result_files: tuple[str, ...] = ()
    error: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the status will not change any more; a job that waits or that a person paused has not ended."""
        return self.status in FINAL

    @property
    def fruitless(self) -> bool:
        """Whether it has ended without a model: failed, cancelled, or "succeeded" without naming one."""
        return self.finished and not (self.status == SUCCEEDED and self.fine_tuned_model)

    def may_carry(self, metadata: Mapping[str, str]) -> bool:
        """Whether nothing says that the job is another's; some providers keep no metadata."""
        return all(self.metadata.get(key, value) == value for key, value in metadata.items())


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of conversations, in their order, and how many the model takes in one."""

    tokens: tuple[int, ...]
    limit: int


class TuningError(RuntimeError):
    """The provider refused; asking again will not help. The message says what to do."""


class UnknownJobError(TuningError):
    """The provider has no job of this id (any more)."""


class TuningUnavailableError(RuntimeError):
    """The provider can't be reached or is in trouble; asking again later may help."""


class TuningApi(ABC):
    """Files and fine-tuning jobs. All raise TuningError and TuningUnavailableError."""

    @abstractmethod
    def upload_file(self, path: Path, name: str) -> str:
        """Id of the file at the provider; the one already there under this name and size where there is one."""

    @abstractmethod
    def create_job(self, order: Order, training_file: str, validation_file: str, key: str) -> TuningJob:
        """Start a job that carries `order.metadata`. This is what costs money.

        A provider that knows idempotency keys gives the job that it has made by this `key`, however that has ended; to
        another it says nothing.
        """

    @abstractmethod
    def find_job(self, order: Order, *, since: float | None = None) -> TuningJob | None:
        """The newest job with `order.metadata` that has a model or may still get one (not `fruitless`), or None.

        Where there is none, the newest fruitless one that was created at `since` (seconds since the epoch) or later.
        """

    @abstractmethod
    def retrieve_job(self, job_id: str) -> TuningJob:
        """The job now."""

    @abstractmethod
    def cancel_job(self, job_id: str) -> None:
        """Stop the job; fine where it has already ended."""

    @abstractmethod
    async def watch_job(self, job_id: str) -> TuningJob:
        """`retrieve_job` without blocking the event loop."""

    @abstractmethod
    def download_file(self, file_id: str) -> bytes:
        """Content of a file, such as a job's results."""

    @abstractmethod
    def measure(self, model: str, conversations: Sequence[Sequence[Message]]) -> Lengths | None:
        """Tokens as the model's own tokenizer has them; None where the provider tells neither them nor a limit.

        A conversation that ends with the assistant is a whole example, any other a prompt to be answered.
        """
