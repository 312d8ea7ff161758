"""How a job fails and how it goes back to the queue, with the words that its client reads.

It knows no process.
"""

import logging

from deployments.llm.disk import DISK_FULL
from deployments.llm.fine_tuning.events import append_event
from deployments.llm.fine_tuning.failures import describe_error
from deployments.llm.fine_tuning.folder import TRAIN_FILE, VALIDATION_FILE
from deployments.llm.fine_tuning.job import JobFailure
from deployments.llm.fine_tuning.store import JobStore

log = logging.getLogger(__name__)


def fail_job(store: JobStore, job_id: str, failure: JobFailure) -> None:
    """Ends it, unless it has ended. Where the disk is full, its copies of files make room for what is left to say."""
    if failure.code == DISK_FULL:
        for name in (TRAIN_FILE, VALIDATION_FILE):
            (store.job_dir(job_id) / name).unlink(missing_ok=True)
    if store.change(job_id, status="failed", error=failure):
        append_event(store.job_dir(job_id), failure.message, level="error")
        log.error("Job %s failed: %s", job_id, failure.message)


def fail_job_by(store: JobStore, job_id: str, error: Exception) -> None:
    """Ends it with an error that the server met."""
    failure = describe_error(error)
    if failure.code == "server_error":
        log.error("Job %s met an error of the server", job_id, exc_info=error)
    fail_job(store, job_id, failure)


def requeue_job(store: JobStore, job_id: str, reason: str) -> None:
    """Has a running job go on with the next attempt."""
    if store.change(job_id, expected={"running"}, status="queued"):
        append_event(store.job_dir(job_id), reason, level="warn")


def note_attempt(store: JobStore, job_id: str, seconds: float, fruitless: int | None = None) -> None:
    """Keeps how long an attempt trained, and how many were fruitless in a row."""
    store.note(
        job_id,
        lambda notes: {
            "seconds": notes.seconds + seconds,
            "fruitless": notes.fruitless if fruitless is None else fruitless,
        },
    )
