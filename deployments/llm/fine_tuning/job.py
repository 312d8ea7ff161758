"""A fine-tuning job, its checkpoints and its events, in OpenAI's shape; what server and trainer share of them.

It knows no storage and no process.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

Status = Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
Method = Literal["supervised", "dpo"]
TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})
ATTEMPT_STARTED: Final = "Fine-tuning job started"
ATTEMPT_RESUMED: Final = "Fine-tuning job resumed from step"
"""The server says one of these when it starts a trainer; the step follows."""


class Hyperparameters(BaseModel):
    """Resolved values: no "auto" is left."""

    n_epochs: int = Field(default=3, ge=1, le=50)
    batch_size: int = Field(default=2, ge=1, le=64)
    learning_rate_multiplier: float = Field(default=1.0, gt=0, le=100)
    lora_rank: int = Field(default=8, ge=1, le=256)
    lora_alpha: int = Field(default=16, ge=1, le=1024)
    early_stopping_patience: int = Field(
        default=0,
        ge=0,
        le=50,
        description="epochs without a better validation loss; 0: all epochs are trained",
    )
    beta: float | None = Field(default=None, gt=0, le=10, description="of dpo alone, and always there for it")


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
    def method_type(self) -> Method:
        """How it trains."""
        return "dpo" if self.method.get("type") == "dpo" else "supervised"

    @property
    def model_id(self) -> str:
        """The id its model will have."""
        return f"ft:{self.model}:{self.suffix or ''}:{self.id.removeprefix('ftjob-')[-8:]}"

    def name_checkpoint(self, step: int) -> str:
        """The model id of the checkpoint at a step."""
        return f"{self.model_id}:ckpt-step-{step}"


class TrainingResult(BaseModel):
    """What a trainer leaves when it ends: the tokens it trained on, or an error in words and its code."""

    trained_tokens: int | None = None
    seconds: float | None = None
    error: str | None = None
    code: str | None = None


class Checkpoint(BaseModel):
    """What a trainer leaves in a checkpoint's folder, as its last file; `epoch` at the end of one, 1 for the first.

    `metrics` are numbers by OpenAI's names: train_loss, train_mean_token_accuracy, valid_loss,
    valid_mean_token_accuracy, full_valid_loss, full_valid_mean_token_accuracy; those that are not known are left out.
    """

    step: int = Field(ge=0)
    epoch: int | None = None
    metrics: dict[str, float] = {}
    created_at: int


class Event(BaseModel):
    """OpenAI's fine-tuning event; `type` "metrics" carries numbers in `data`."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics"] = "message"
    data: dict[str, Any] = {}
