"""What becomes of a job whose trainer has ended: a model, another attempt, or a failure in words.

It knows no thread.
"""

import logging
import shutil

from deployments.llm.engines.ports import ChatEngine
from deployments.llm.fine_tuning.attempt import Attempt
from deployments.llm.fine_tuning.events import append_event
from deployments.llm.fine_tuning.failures import (
    FRUITLESS_LIMIT,
    describe_deaths,
    describe_end,
    died,
    name_death,
)
from deployments.llm.fine_tuning.outcome import publish_results, read_result, withdraw_results
from deployments.llm.fine_tuning.record import JobRecord
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.fine_tuning.transitions import fail_job, note_attempt, requeue_job
from deployments.llm.uploads import FileStore

log = logging.getLogger(__name__)


def finish_job(
    store: JobStore, files: FileStore, engine: ChatEngine, job: JobRecord, attempt: Attempt, step: int | None
) -> None:
    """Of an attempt that has ended; `step` is that of the newest checkpoint. Raises OSError."""
    exit_code = attempt.exit_code
    if exit_code is None:
        raise ValueError("the trainer still runs")
    directory = store.job_dir(job.id)
    result = read_result(directory)
    if exit_code == 0 and result.trained_tokens is not None and not result.error:
        _succeed(store, files, engine, job, result.trained_tokens)
        log.info("Job %s ended after %.0f s", job.id, attempt.seconds)
    elif died(exit_code) and not result.error:
        fruitless = job.server.fruitless + 1 if step == attempt.step else 0
        if fruitless >= FRUITLESS_LIMIT:
            fail_job(store, job.id, describe_deaths(exit_code, step))
            return
        note_attempt(store, job.id, 0, fruitless)
        requeue_job(store, job.id, f"The trainer died ({name_death(exit_code)}); the job goes on")
    else:
        fail_job(store, job.id, describe_end(exit_code, result, shutil.disk_usage(directory).free))


def _succeed(
    store: JobStore, files: FileStore, engine: ChatEngine, job: JobRecord, trained_tokens: int
) -> None:
    directory = store.job_dir(job.id)
    result_files = publish_results(job, directory, files)
    # Known to the engine before the job says so: who sees "succeeded" can ask the model at once.
    engine.register_adapter(job.model_id, store.adapter_dir(job.id))
    done = None
    try:
        done = store.change(
            job.id,
            expected={"running"},
            status="succeeded",
            fine_tuned_model=job.model_id,
            trained_tokens=trained_tokens,
            result_files=result_files,
        )
    finally:
        if done is None:  # cancelled or paused at the last moment, or not recorded: there is no such model
            engine.forget_adapter(job.model_id)
            withdraw_results(job, files)
    if done is None:
        return
    append_event(directory, f"New fine-tuned model created: {job.model_id}")
    append_event(directory, "The job has successfully completed")
