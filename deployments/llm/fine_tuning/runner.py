"""Takes jobs from validation to their end, one at a time, each in a process of its own.

It knows no torch and no HTTP; the process it starts does the training.
"""

import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psutil

from deployments.llm.fine_tuning.examples import BadExampleError, read_examples
from deployments.llm.fine_tuning.job import Job, JobFailure
from deployments.llm.fine_tuning.lineage import Emit
from deployments.llm.fine_tuning.store import JobStore, append_event
from deployments.llm.uploads import FileStore, write_durably

log = logging.getLogger(__name__)

RESULT_FILE: Final = "result.json"
METRICS_FILE: Final = "metrics.csv"
TRAIN_FILE: Final = "train.jsonl"
VALIDATION_FILE: Final = "validation.jsonl"
_PROCESS_FILE: Final = "process.json"
_TICK: Final = 0.25
_STOP_SECONDS: Final = 5.0


class JobRunner:
    """One background thread. `command` starts the trainer; the job's folder is added to it."""

    def __init__(
        self,
        store: JobStore,
        files: FileStore,
        *,
        command: Sequence[str],
        environment: dict[str, str] | None,
        emit: Emit,
        on_model: Callable[[str, Path], None],
        nice: int = 0,
        timeout: float = 6 * 3600,
    ) -> None:
        self._store, self._files, self._command, self._environment = store, files, list(command), environment
        self._emit, self._on_model, self._nice, self._timeout = emit, on_model, nice, timeout
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-runner", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._job_id = self._run_id = ""
        self._started = 0.0

    def start(self) -> None:
        """Puts back what a dead server left behind, then works in the background."""
        for job in self._store.list():
            if job.status == "running":
                directory = self._store.job_dir(job.id)
                _kill_leftover(directory)
                self._store.change(job.id, status="queued")
                append_event(directory, "The server was restarted; the job starts again", level="warn")
                log.warning("Job %s was running when the server ended; it starts again", job.id)
        self._thread.start()

    def wake(self) -> None:
        """Looks at the jobs now rather than at the next tick."""
        self._wake.set()

    def stop(self) -> None:
        """Ends the thread and the trainer; a running job starts again with the next server."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_STOP_SECONDS * 3)
        self._end_process()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._tick()
            except Exception:
                log.exception("The job runner met an error; it goes on")
                time.sleep(1)
            self._wake.wait(_TICK if self._process else 2.0)
            self._wake.clear()

    def _tick(self) -> None:
        oldest_first = self._store.list()[::-1]
        for job in oldest_first:
            if job.status == "validating_files":
                self._validate(job)
        if self._process is not None:
            self._watch(self._process)
        if self._process is None:
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
        with (directory / "trainer.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command, str(directory.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        self._job_id, self._run_id, self._started = job.id, str(uuid4()), time.monotonic()
        process = psutil.Process(self._process.pid)
        identity = {"pid": process.pid, "create_time": process.create_time()}
        write_durably(directory / _PROCESS_FILE, json.dumps(identity).encode())
        try:
            process.nice(self._nice)
        except psutil.Error:
            log.warning("The trainer's priority could not be lowered")
        append_event(directory, "Fine-tuning job started")
        log.info("Job %s started as process %d", job.id, process.pid)
        self._emit("START", self._run_id, job)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        job = self._store.get(self._job_id)
        assert job is not None
        if job.ended:  # cancelled
            self._end_process()
            self._emit("ABORT", self._run_id, job)
        elif process.poll() is not None:
            self._process = None
            self._finish(job, process.returncode)
        elif time.monotonic() - self._started > self._timeout:
            self._end_process()
            self._fail(
                job, JobFailure(code="timeout", message=f"The job ran longer than {self._timeout:.0f} s.")
            )

    def _finish(self, job: Job, exit_code: int) -> None:
        directory = self._store.job_dir(job.id)
        result = _read_json(directory / RESULT_FILE)
        if exit_code != 0 or result is None or "error" in result:
            message = (result or {}).get(
                "error"
            ) or f"The trainer ended with code {exit_code}; see trainer.log."
            self._fail(job, JobFailure(code="training_failed", message=message))
            return
        metrics = self._files.add(
            (directory / METRICS_FILE).read_bytes(), f"{job.id}_metrics.csv", "fine-tune-results"
        )
        # Known to the engine before the job says so: who sees "succeeded" can ask the model at once.
        self._on_model(job.model_id, self._store.adapter_dir(job.id))
        append_event(directory, f"New fine-tuned model created: {job.model_id}")
        done = self._store.change(
            job.id,
            status="succeeded",
            fine_tuned_model=job.model_id,
            trained_tokens=result["trained_tokens"],
            result_files=[metrics.id],
        )
        log.info("Job %s succeeded in %.0f s", job.id, time.monotonic() - self._started)
        if done:
            append_event(directory, "The job has successfully completed")
        self._emit("COMPLETE" if done else "ABORT", self._run_id, done or job)

    def _fail(self, job: Job, failure: JobFailure) -> None:
        failed = self._store.change(job.id, status="failed", error=failure)
        if failed:
            append_event(self._store.job_dir(job.id), failure.message, level="error")
            log.error("Job %s failed: %s", job.id, failure.message)
            if job.status == "running":
                self._emit("FAIL", self._run_id, failed)

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_SECONDS)


def _kill_leftover(directory: Path) -> None:
    """Ends the trainer that a killed server left running; its process id alone could be someone else's by now."""
    identity = _read_json(directory / _PROCESS_FILE)
    if identity is None:
        return
    try:
        process = psutil.Process(identity["pid"])
        if abs(process.create_time() - identity["create_time"]) < 1 and process.pid != os.getpid():
            log.warning("Ending process %d, which a former server left", process.pid)
            process.kill()
            process.wait(_STOP_SECONDS)
    except psutil.Error:
        return


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
