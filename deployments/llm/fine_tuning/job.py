"""A fine-tuning job and its events, in OpenAI's shape.

It knows no storage and no process.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
ATTEMPT_STARTED: Final = "Fine-tuning job started"


class Hyperparameters(BaseModel):
    """Resolved values: no "auto" is left."""

    n_epochs: int = Field(default=3, ge=1, le=50)
    batch_size: int = Field(default=2, ge=1, le=64)
    learning_rate_multiplier: float = Field(default=1.0, gt=0, le=100)


class JobFailure(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class Job(BaseModel):
    """OpenAI's fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None = None
    estimated_finish: int | None = None
    model: str
    organization_id: str = "ghostwriter"
    status: Status = "validating_files"
    training_file: str
    validation_file: str | None = None
    hyperparameters: Hyperparameters = Hyperparameters()
    method: dict[str, Any] = {}
    suffix: str | None = None
    seed: int = 0
    metadata: dict[str, str] = {}
    integrations: list[dict[str, Any]] = []
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    result_files: list[str] = []
    error: JobFailure | None = None

    @property
    def ended(self) -> bool:
        """Whether its status is final."""
        return self.status in TERMINAL

    @property
    def model_id(self) -> str:
        """The id its model will have."""
        return f"ft:{self.model}:{self.suffix or ''}:{self.id.removeprefix('ftjob-')[-8:]}"


class TrainingResult(BaseModel):
    """What a trainer leaves when it ends: the tokens it trained on, or an error."""

    trained_tokens: int | None = None
    error: str | None = None


class Event(BaseModel):
    """OpenAI's fine-tuning event; `type` "metrics" carries numbers in `data`."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = {}
