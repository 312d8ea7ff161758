"""The training deployment's reads and writes in the ledger.

It knows no provider and no file; each function is one short transaction of the caller's session.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deployments.training.preparation import ContextItem
from deployments.training.proposals import Order
from deployments.training.tuning.port import CANCELLED, FAILED, SUCCEEDED, TuningJob
from shared.examples import Split
from shared.ledger.models import FineTuningJob, KnowledgeVersion, PinnedContext, TrainingSet, utc_now

RESERVED: Final = "reserved"
"""The status of a row whose job's end is not recorded, while no other status of the job is known."""
RELEASED: Final = "released"
"""The status of a row whose model is registered, where a person wants another: the provider denied having it."""


def has_knowledge(session: Session) -> bool:
    """Whether an ingest run has ever been finished: half a knowledge base must not be pinned."""
    return session.scalar(select(KnowledgeVersion.id).limit(1)) is not None


def load_contexts(session: Session, digests: Iterable[str]) -> dict[str, list[ContextItem]]:
    """The pinned contexts, by example digest."""
    rows = session.scalars(select(PinnedContext).where(PinnedContext.example_digest.in_(list(digests))))
    return {row.example_digest: [ContextItem(**chunk) for chunk in row.chunks] for row in rows}


def pin_contexts(session: Session, contexts: Mapping[str, Sequence[ContextItem]]) -> None:
    """Pin the contexts of new examples; what is pinned already stays."""
    known = load_contexts(session, contexts)
    for digest, items in contexts.items():
        if digest not in known:
            session.add(PinnedContext(example_digest=digest, chunks=[asdict(item) for item in items]))


def save_training_set(
    session: Session,
    digest: str,
    files: Mapping[Split, Path],
    examples: list[dict[str, Any]],
    counts: dict[str, int],
    prompt_version: str,
    run: str,
) -> None:
    """Record a frozen training set once."""
    if session.get(TrainingSet, digest) is None:
        session.add(
            TrainingSet(
                digest=digest,
                train_file=str(files["train"]),
                validation_file=str(files["validation"]),
                holdout_file=str(files["holdout"]),
                examples=examples,
                counts=counts,
                prompt_version=prompt_version,
                run=run,
            )
        )


def get_training_set(session: Session, digest: str) -> TrainingSet:
    """A frozen training set; LookupError where the ledger has none of this digest."""
    found = session.get(TrainingSet, digest)
    if found is None:
        raise LookupError(f"The ledger has no training set {digest}; run the Dag prepare_examples.")
    return found


def find_job(session: Session, order: Order) -> FineTuningJob | None:
    """The job of this training set and these settings, or None."""
    return session.scalar(_select_job(order))


def reserve_job(session: Session, order: Order) -> FineTuningJob:
    """The job's row, locked until the session commits: two tasks never create a job side by side."""
    row = session.scalar(_select_job(order).with_for_update())
    if row is None:
        try:
            with session.begin_nested():
                session.add(
                    FineTuningJob(training_set=order.training_set, settings_digest=order.settings_digest)
                )
        except IntegrityError:  # another task was faster
            pass
        row = session.scalars(_select_job(order).with_for_update()).one()
    return row


def is_settled(row: FineTuningJob | None) -> bool:
    """Whether nothing is left to do: the model is registered, or the job failed and waits for a person."""
    return row is not None and (
        row.status in (FAILED, CANCELLED) or (row.status == SUCCEEDED and row.model_version is not None)
    )


def is_under_way(row: FineTuningJob) -> bool:
    """Whether the row stands for a job that there is, and that a run would follow rather than replace."""
    return row.job_id is not None and row.status not in (FAILED, CANCELLED, RELEASED)


def describe_failure(row: FineTuningJob) -> str:
    """`Job ftjob-1 has failed: out of memory`, of a job that came to nothing."""
    return f"Job {row.job_id} has {row.status.replace(CANCELLED, 'been cancelled')}" + (
        f": {row.error}" if row.error else ""
    )


def attach_job(row: FineTuningJob, job: TuningJob) -> None:
    """Note which job at the provider stands for this row; how it ended is for `finish_job` alone to say."""
    if row.job_id != job.id:
        empty_row(row)
        row.job_id = job.id
    row.asked_at = None
    if not job.finished:
        row.status = job.status


def empty_row(row: FineTuningJob) -> None:
    """Forget the row's job: another one is to take its place."""
    row.status = RESERVED
    row.job_id = row.error = row.model_id = row.mlflow_run_id = row.model_version = None
    row.trained_tokens = row.seconds = row.finished_at = None


def finish_job(
    row: FineTuningJob, job: TuningJob, *, model_version: str | None = None, seconds: float | None = None
) -> None:
    """Note how the job ended, in one step with the version registered for its model: without one it has failed."""
    row.job_id = job.id
    row.status, row.error = job.status, job.error[:1000] or None
    if job.status == SUCCEEDED and model_version is None:
        row.status, row.error = FAILED, "it succeeded, but names no model"
    row.model_id = job.fine_tuned_model
    row.model_version = model_version
    row.trained_tokens = job.trained_tokens
    row.seconds = seconds
    row.asked_at = None
    row.finished_at = utc_now()


def find_unsettled_jobs(session: Session) -> list[FineTuningJob]:
    """The rows of jobs that nobody has seen through yet, locked until the session commits."""
    rows = session.scalars(
        select(FineTuningJob).where(FineTuningJob.job_id.is_not(None)).with_for_update(skip_locked=True)
    )
    return [row for row in rows if row.status != RELEASED and not is_settled(row)]


def find_registered_jobs(session: Session) -> list[FineTuningJob]:
    """The rows of jobs whose models are registered, locked until the session commits."""
    succeeded = select(FineTuningJob).where(FineTuningJob.status == SUCCEEDED)
    return list(
        session.scalars(
            succeeded.where(FineTuningJob.model_version.is_not(None)).with_for_update(skip_locked=True)
        )
    )


def find_job_by_id(session: Session, job_id: str) -> FineTuningJob | None:
    """The row that a job at the provider stands for, locked until the session commits; None where it was replaced."""
    return session.scalar(select(FineTuningJob).where(FineTuningJob.job_id == job_id).with_for_update())


def release_failed_jobs(session: Session) -> int:
    """Let failed and cancelled jobs be tried again; how many there were."""
    found = session.scalars(
        delete(FineTuningJob).where(FineTuningJob.status.in_([FAILED, CANCELLED])).returning(FineTuningJob.id)
    )
    return len(list(found))


def _select_job(order: Order) -> Any:
    return select(FineTuningJob).where(
        FineTuningJob.training_set == order.training_set,
        FineTuningJob.settings_digest == order.settings_digest,
    )
