"""Takes jobs from validation to their end, one at a time, each in a process of its own.

It knows no torch and no HTTP; the process it starts does the training.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

import psutil

from deployments.llm.engines.ports import ChatEngine
from deployments.llm.fine_tuning.attempt import (
    Attempt,
    end_leftover,
    forget_attempt,
    start_attempt,
)
from deployments.llm.fine_tuning.examples import BadExampleError, read_examples
from deployments.llm.fine_tuning.folder import METRICS_FILE, RESULT_FILE, TRAIN_FILE, VALIDATION_FILE
from deployments.llm.fine_tuning.job import ATTEMPT_STARTED, Job, JobFailure, TrainingResult
from deployments.llm.fine_tuning.lineage import Emit, EventType
from deployments.llm.fine_tuning.store import JobStore, append_event
from deployments.llm.records import UnreadableRecordError, read_record
from deployments.llm.uploads import FileStore, write_durably

log = logging.getLogger(__name__)

_TICK: Final = 0.25
_JOIN_SECONDS: Final = 15.0
_RUN_ENDS: Final[dict[str, EventType]] = {"succeeded": "COMPLETE", "failed": "FAIL"}


class JobRunner:
    """One background thread. `command` starts the trainer; the job's folder is added to it."""

    def __init__(
        self,
        store: JobStore,
        files: FileStore,
        engine: ChatEngine,
        *,
        command: Sequence[str],
        environment: dict[str, str] | None,
        emit: Emit,
        nice: int = 0,
        timeout: float = 6 * 3600,
    ) -> None:
        self._store, self._files, self._engine = store, files, engine
        self._command, self._environment, self._emit = list(command), environment, emit
        self._nice, self._timeout = nice, timeout
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-runner", daemon=True)
        self._attempt: Attempt | None = None

    def start(self) -> None:
        """Puts back what a dead server left behind, then works in the background."""
        for job in self._store.list():
            directory = self._store.job_dir(job.id)
            run_id = end_leftover(directory)
            if run_id:
                self._emit(_RUN_ENDS.get(job.status, "ABORT"), run_id, job)
            if job.status == "running":
                log.warning("Job %s was running when the server ended; it starts again", job.id)
                self._requeue(job, "The server was restarted; the job starts again")
            forget_attempt(directory)
        self._thread.start()

    def wake(self) -> None:
        """Looks at the jobs now rather than at the next tick."""
        self._wake.set()

    def stop(self) -> None:
        """Ends the thread and the trainer; a running job starts again with the next server."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        if self._attempt is not None:
            self._watch(self._attempt)  # it may have ended, or been cancelled, since the last look
        if self._attempt is not None:
            job = self._store.get(self._attempt.job_id)
            self._close(self._attempt)
            if job is not None:
                self._requeue(job, "The server was stopped; the job starts again with the next one")

    def _requeue(self, job: Job, reason: str) -> None:
        if self._store.change(job.id, status="queued"):
            append_event(self._store.job_dir(job.id), reason, level="warn")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._tick()
            except Exception:
                log.exception("The job runner met an error; it goes on")
                time.sleep(1)
            self._wake.wait(_TICK if self._attempt else 2.0)
            self._wake.clear()

    def _tick(self) -> None:
        for job in self._store.list()[::-1]:
            if job.status == "validating_files":
                try:
                    self._validate(job)
                except Exception as error:
                    self._fail_unexpectedly(job, error)
        if self._attempt is not None:
            self._watch(self._attempt)
        if self._attempt is None:
            queued = next((job for job in self._store.list()[::-1] if job.status == "queued"), None)
            if queued:
                self._begin(queued)

    def _validate(self, job: Job) -> None:
        directory = self._store.job_dir(job.id)
        append_event(directory, f"Validating training file: {job.training_file}")
        for param, file_id, name in (
            ("training_file", job.training_file, TRAIN_FILE),
            ("validation_file", job.validation_file, VALIDATION_FILE),
        ):
            if file_id is None:
                continue
            try:
                # A copy: the job must not change or break when the upload is deleted.
                content = self._files.content_path(file_id).read_bytes()
                count = len(read_examples(content))
            except (BadExampleError, OSError) as error:
                reason = (
                    str(error) if isinstance(error, BadExampleError) else "the file is gone; upload it again."
                )
                self._fail(
                    job, JobFailure(code=f"invalid_{param}", message=f"{param}: {reason}", param=param)
                )
                return
            write_durably(directory / name, content)
            append_event(directory, f"{param}: {count} examples")
        if self._store.change(job.id, status="queued"):
            append_event(directory, "Files validated, moving job to queued state")

    def _begin(self, job: Job) -> None:
        directory = self._store.job_dir(job.id)
        (directory / RESULT_FILE).unlink(missing_ok=True)
        if self._store.change(job.id, status="running") is None:
            return
        try:
            attempt = start_attempt(job.id, directory, self._command, self._environment, self._nice)
        except (OSError, psutil.Error) as error:
            self._fail_unexpectedly(job, error)
            return
        self._attempt = attempt
        self._emit("START", attempt.run_id, job)
        append_event(directory, ATTEMPT_STARTED)
        log.info("Job %s started as process %d", job.id, attempt.pid)

    def _watch(self, attempt: Attempt) -> None:
        job = self._store.get(attempt.job_id)
        assert job is not None
        if not job.ended:  # else it was cancelled
            exit_code = attempt.exit_code
            if exit_code is not None:
                try:
                    self._finish(job, exit_code, attempt.seconds)
                except Exception as error:
                    self._fail_unexpectedly(job, error)
            elif attempt.seconds > self._timeout:
                message = f"The job ran longer than {self._timeout:.0f} s."
                self._fail(job, JobFailure(code="timeout", message=message))
            else:
                return
        self._close(attempt)

    def _close(self, attempt: Attempt) -> None:
        """Ends the attempt: its process, and its lineage run by what became of the job."""
        job = self._store.get(attempt.job_id)
        assert job is not None
        attempt.end()
        self._emit(_RUN_ENDS.get(job.status, "ABORT"), attempt.run_id, job)
        forget_attempt(self._store.job_dir(job.id))
        self._attempt = None

    def _finish(self, job: Job, exit_code: int, seconds: float) -> None:
        directory = self._store.job_dir(job.id)
        try:
            result = read_record(directory / RESULT_FILE, TrainingResult) or TrainingResult()
        except UnreadableRecordError as error:
            log.error("Job %s left no result: %s", job.id, error)
            result = TrainingResult()
        if exit_code != 0 or result.error or result.trained_tokens is None:
            message = result.error or f"The trainer ended with code {exit_code}; see trainer.log."
            self._fail(job, JobFailure(code="training_failed", message=message))
            return
        with (directory / METRICS_FILE).open("rb") as table:
            metrics = self._files.add(table, f"{job.id}_metrics.csv", "fine-tune-results")
        # Known to the engine before the job says so: who sees "succeeded" can ask the model at once.
        self._engine.register_adapter(job.model_id, self._store.adapter_dir(job.id))
        done = self._store.change(
            job.id,
            status="succeeded",
            fine_tuned_model=job.model_id,
            trained_tokens=result.trained_tokens,
            result_files=[metrics.id],
        )
        if done is None:  # cancelled at the last moment: there is no such model
            self._engine.forget_adapter(job.model_id)
            self._files.delete(metrics.id)
            return
        log.info("Job %s succeeded in %.0f s", job.id, seconds)
        append_event(directory, f"New fine-tuned model created: {job.model_id}")
        append_event(directory, "The job has successfully completed")

    def _fail(self, job: Job, failure: JobFailure) -> None:
        if self._store.change(job.id, status="failed", error=failure):
            append_event(self._store.job_dir(job.id), failure.message, level="error")
            log.error("Job %s failed: %s", job.id, failure.message)

    def _fail_unexpectedly(self, job: Job, error: Exception) -> None:
        log.error("Job %s met an error of the server", job.id, exc_info=error)
        self._fail(job, JobFailure(code="server_error", message=f"{type(error).__name__}: {error}"))
