"""Takes jobs to their end, one at a time, each in a process of its own.

It knows no torch and no HTTP; the process it starts does the training.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from deployments.llm.engines.ports import ChatEngine
from deployments.llm.fine_tuning.attempt import Attempt, end_leftover, forget_attempt, start_attempt
from deployments.llm.fine_tuning.checkpoints import CheckpointWatch
from deployments.llm.fine_tuning.endings import finish_job
from deployments.llm.fine_tuning.events import append_event, last_written
from deployments.llm.fine_tuning.folder import RESULT_FILE
from deployments.llm.fine_tuning.job import ATTEMPT_RESUMED, ATTEMPT_STARTED, JobFailure
from deployments.llm.fine_tuning.lineage import Emit, EventType
from deployments.llm.fine_tuning.loop import Loop
from deployments.llm.fine_tuning.outcome import drop_trainer_state, withdraw_results
from deployments.llm.fine_tuning.record import JobRecord
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.fine_tuning.transitions import fail_job, fail_job_by, note_attempt, requeue_job
from deployments.llm.fine_tuning.validator import JobValidator
from deployments.llm.uploads import FileStore

log = logging.getLogger(__name__)

_TICK: Final = 0.1
_IDLE: Final = 2.0
_JOIN_SECONDS: Final = 7.0
_RUN_ENDS: Final[dict[str, EventType]] = {"succeeded": "COMPLETE", "failed": "FAIL"}


class JobRunner:
    """A background thread, beside that of the validator: no job waits for another's long file.

    `command` starts the trainer; the job's folder is added to it. `timeout` is in seconds of training: pauses and the
    time in the queue don't count. While `find_obstacle` says why no trainer can be started, jobs stay queued, with that
    in their events.
    """

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
        find_obstacle: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._store, self._files, self._engine = store, files, engine
        self._command, self._environment, self._emit = list(command), environment, emit
        self._nice, self._timeout = nice, timeout
        self._find_obstacle = find_obstacle
        self._told_to_wait: set[str] = set()
        self._loop = Loop("job-runner", self._train_next)
        self._validator = JobValidator(store, files, engine, on_queued=self._loop.wake)
        self._attempt: tuple[Attempt, CheckpointWatch] | None = None

    def start(self) -> None:
        """Puts back what a dead server left behind, then works in the background."""
        for job in self._store.list():
            directory = self._store.job_dir(job.id)
            leftover = end_leftover(directory)
            if leftover is not None:
                # The last event is the last that is known of it.
                note_attempt(self._store, job.id, max(0.0, (last_written(directory) or 0) - leftover.began))
                if leftover.run_id:
                    self._emit(_RUN_ENDS.get(job.status, "ABORT"), leftover.run_id, job)
            if job.status == "running":
                log.warning("Job %s was running when the server ended; it goes on", job.id)
                requeue_job(self._store, job.id, "The server was restarted; the job goes on")
            forget_attempt(directory)
        self._tidy_up()
        self._validator.loop.start()
        self._loop.start()

    def _tidy_up(self) -> None:
        """What a dead server did not come to do, now that no trainer writes any more and nobody uploads yet."""
        if swept := self._files.sweep() + self._store.sweep():
            log.warning("%d leftovers of a server that was killed were removed", swept)
        for job in self._store.list():
            if job.status != "succeeded":  # else they were published before it could be recorded
                withdraw_results(job, self._files)
            if job.ended:
                drop_trainer_state(self._store.job_dir(job.id), self._store.checkpoints(job.id))

    def wake(self) -> None:
        """Looks at the jobs now rather than at the next tick."""
        self._validator.loop.wake()
        self._loop.wake()

    @property
    def alive(self) -> bool:
        """Whether jobs are worked on."""
        return self._loop.alive and self._validator.loop.alive

    def stop(self) -> None:
        """Ends the threads and the trainer; a running job goes on with the next server."""
        self._validator.loop.stop(_JOIN_SECONDS)
        self._loop.stop(_JOIN_SECONDS)
        if self._attempt is not None:
            self._watch(*self._attempt)  # it may have ended, or been cancelled, since the last look
        if self._attempt is not None:
            attempt, watch = self._attempt
            self._close(attempt, watch)
            requeue_job(
                self._store, attempt.job_id, "The server was stopped; the job goes on with the next one"
            )

    def _train_next(self) -> float:
        self._store.save()
        if self._attempt is not None:
            self._watch(*self._attempt)
        if self._attempt is None:
            queued = next((job for job in self._store.list()[::-1] if job.status == "queued"), None)
            if queued and not self._is_held_up(queued):
                self._begin(queued)
        return _TICK if self._attempt else _IDLE

    def _is_held_up(self, job: JobRecord) -> bool:
        obstacle = self._find_obstacle()
        if obstacle and job.id not in self._told_to_wait:
            self._told_to_wait.add(job.id)
            append_event(self._store.job_dir(job.id), f"The job waits: {obstacle}", level="warn")
            log.warning("Job %s waits: %s", job.id, obstacle)
        return obstacle is not None

    def _begin(self, job: JobRecord) -> None:
        directory = self._store.job_dir(job.id)
        watch = CheckpointWatch(self._store, self._engine, job)
        if self._store.change(job.id, expected={"queued"}, status="running") is None:
            return
        try:
            (directory / RESULT_FILE).unlink(missing_ok=True)
            resumed = f"{ATTEMPT_RESUMED} {watch.step}"
            append_event(directory, ATTEMPT_STARTED if watch.step is None else resumed)
            attempt = start_attempt(
                job.id, directory, self._command, self._environment, self._nice, watch.step
            )
        except (
            Exception
        ) as error:  # whatever it is: a job that says it runs, and does not, would stay so for ever
            fail_job_by(self._store, job.id, error)
            return
        self._attempt = attempt, watch
        self._emit("START", attempt.run_id, job)
        log.info("Job %s started as process %d", job.id, attempt.pid)

    def _watch(self, attempt: Attempt, watch: CheckpointWatch) -> None:
        job = self._store.get(attempt.job_id)
        assert job is not None
        watch.look()
        if job.status == "running":  # else it was cancelled or paused
            if attempt.exit_code is not None:
                watch.look()  # it may have left one since
                try:
                    finish_job(self._store, self._files, self._engine, job, attempt, watch.step)
                except Exception as error:
                    fail_job_by(self._store, job.id, error)
            elif job.server.seconds + attempt.seconds > self._timeout:
                message = f"The job trained longer than {self._timeout:.0f} s."
                fail_job(self._store, job.id, JobFailure(code="timeout", message=message))
            else:
                return
        self._close(attempt, watch)

    def _close(self, attempt: Attempt, watch: CheckpointWatch) -> None:
        """Ends the attempt: its process, and its lineage run by what became of the job."""
        attempt.end()
        watch.look()
        note_attempt(self._store, attempt.job_id, attempt.seconds)
        job = self._store.get(attempt.job_id)
        assert job is not None
        directory = self._store.job_dir(job.id)
        self._emit(_RUN_ENDS.get(job.status, "ABORT"), attempt.run_id, job)
        if job.ended:
            drop_trainer_state(directory, self._store.checkpoints(job.id))
        forget_attempt(directory)
        self._attempt = None
