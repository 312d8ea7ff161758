"""Training sets, jobs and verdicts: what must not be paid twice, and what a promotion stood on."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from shared.ledger.models.base import Base, BigId, utc_now


class PinnedContext(Base):
    """The chunks retrieved for an example when it was first prepared: later knowledge changes don't touch it."""

    __tablename__ = "pinned_contexts"

    example_digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # sha256 of topic and text
    chunks: Mapped[list[Any]]  # [{chunk_id, uri, content_hash, title, text}]
    pinned_at: Mapped[datetime] = mapped_column(default=utc_now)


class TrainingSet(Base):
    """A frozen training set; `digest` is over the JSONL files and names them on disk."""

    __tablename__ = "training_sets"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    train_file: Mapped[str] = mapped_column(Text)
    validation_file: Mapped[str] = mapped_column(Text)
    holdout_file: Mapped[str] = mapped_column(Text)
    examples: Mapped[list[Any]]  # [{path, split, digest, chunk_ids}]
    counts: Mapped[dict[str, Any]]  # {train, validation, holdout}
    prompt_version: Mapped[str] = mapped_column(String(40))
    run: Mapped[str] = mapped_column(String(250))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class FineTuningJob(Base):
    """At most one job per training set and provider settings (`settings_digest`)."""

    __tablename__ = "fine_tuning_jobs"
    __table_args__ = (UniqueConstraint("training_set", "settings_digest"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    training_set: Mapped[str] = mapped_column(ForeignKey("training_sets.digest"))
    settings_digest: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str | None] = mapped_column(String(200))  # null between reserving and creating
    # A final status is written in one step with what goes with it: the version, or the error.
    status: Mapped[str] = mapped_column(String(40), default="reserved")
    asked_at: Mapped[datetime | None]  # set while the answer to "create a job" is not known
    error: Mapped[str | None] = mapped_column(Text)  # the provider's reason, or who cancelled
    model_id: Mapped[str | None] = mapped_column(String(250))
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    model_version: Mapped[str | None] = mapped_column(String(20))
    trained_tokens: Mapped[int | None]
    seconds: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]


class PromotionVerdict(Base):
    """A challenger's exam against one rival: what both wrote is kept, so a retry judges the same posts again."""

    __tablename__ = "promotion_verdicts"

    key: Mapped[str] = mapped_column(
        String(64), primary_key=True
    )  # over the pair and all that the scores stand on
    holdout: Mapped[str] = mapped_column(String(64), index=True)  # over the holdout's topics and posts
    challenger: Mapped[str] = mapped_column(String(20))  # model versions
    rival: Mapped[str | None] = mapped_column(String(20))  # null: the base model
    texts: Mapped[dict[str, Any]]  # {model id: [a post for each topic]}
    number: Mapped[int | None]  # counts the verdicts on this holdout; null until it is given
    promote: Mapped[bool | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
