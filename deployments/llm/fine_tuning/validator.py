"""Takes new jobs from validation to the queue, beside the one that trains.

It knows no trainer.
"""

from collections.abc import Callable
from typing import Final

from deployments.llm.engines.ports import ChatEngine, NotReadyError, QueueFullError
from deployments.llm.fine_tuning.events import append_event
from deployments.llm.fine_tuning.job import Job, JobFailure
from deployments.llm.fine_tuning.loop import Loop
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.fine_tuning.transitions import fail_job, fail_job_by
from deployments.llm.fine_tuning.validation import AbandonedError, copy_files
from deployments.llm.uploads import FileStore

_PAUSE: Final = 2.0


class JobValidator:
    """A background thread. `on_queued` is called for each job that came into the queue.

    Tokens are counted by the engine, so jobs wait until it is loaded; where it can't be loaded, they fail.
    """

    def __init__(
        self, store: JobStore, files: FileStore, engine: ChatEngine, on_queued: Callable[[], None]
    ) -> None:
        self._store, self._files, self._engine, self._on_queued = store, files, engine, on_queued
        self.loop = Loop("job-validator", self._validate_waiting)

    def _validate_waiting(self) -> float:
        for job in self._store.list()[::-1]:
            if self._is_wanted(job):
                self._consider(job)
        return _PAUSE

    def _consider(self, job: Job) -> None:
        if self._engine.failure:
            message = f"The model, which counts the examples' tokens, can't be loaded: {self._engine.failure}"
            fail_job(self._store, job.id, JobFailure(code="server_error", message=message))
        elif self._engine.ready:
            try:
                self._validate(job)
            except (AbandonedError, NotReadyError, QueueFullError):
                return  # it is looked at again in a moment
            except Exception as error:
                fail_job_by(self._store, job.id, error)

    def _is_wanted(self, job: Job) -> bool:
        now = self._store.get(job.id)
        return not self.loop.stopping and now is not None and now.status == "validating_files"

    def _validate(self, job: Job) -> None:
        directory = self._store.job_dir(job.id)
        append_event(directory, f"Validating training file: {job.training_file}")
        counts = copy_files(job, directory, self._files, self._engine, lambda: self._is_wanted(job))
        for param, count in counts.items():
            append_event(directory, f"{param}: {count} examples")
        if self._store.change(job.id, expected={"validating_files"}, status="queued"):
            append_event(directory, "Files validated, moving job to queued state")
            self._on_queued()
