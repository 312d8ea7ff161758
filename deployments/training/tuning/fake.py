"""A provider of fine-tuning jobs for tests: in memory, finished when told to, honest about its contract.

It knows no network and trains nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deployments.training.proposals import Order
from deployments.training.tuning.port import (
    CANCELLED,
    FAILED,
    SUCCEEDED,
    Lengths,
    TuningApi,
    TuningError,
    TuningJob,
    TuningUnavailableError,
    UnknownJobError,
)
from shared.llm.port import Message

RESULTS = b"step,train_loss,valid_loss\n1,2.0,2.1\n2,1.0,1.4\n"


class FakeTuning(TuningApi):
    """Jobs stay `running` until `finish` or `change`; while `down` is set, every call says so. A token is a word.

    With no `limit` it measures nothing. `made` are jobs by the keys of their requests.
    """

    def __init__(self) -> None:
        self.down = False
        self.limit: int | None = None
        self.jobs: dict[str, TuningJob] = {}
        self.made: dict[str, str] = {}
        self.files: dict[str, tuple[str, bytes]] = {}

    def finish(self, job_id: str, status: str = SUCCEEDED) -> None:
        """End a job."""
        job = self.jobs[job_id]
        results = self._store("step_metrics.csv", RESULTS)
        self.jobs[job_id] = replace(
            job,
            status=status,
            finished_at=job.created_at + 60,
            fine_tuned_model=f"ft:{job.model}:{job_id}" if status == SUCCEEDED else None,
            trained_tokens=1000 if status == SUCCEEDED else None,
            result_files=(results,) if status == SUCCEEDED else (),
            error="it broke" if status == FAILED else "",
        )

    def change(self, job_id: str, status: str) -> None:
        """Have a job that has not ended wait, be paused or run."""
        self.jobs[job_id] = replace(self.jobs[job_id], status=status)

    def upload_file(self, path: Path, name: str) -> str:
        self._require_up()
        content = path.read_bytes()
        for file_id, known in self.files.items():
            if (known[0], len(known[1])) == (name, len(content)):
                return file_id
        return self._store(name, content)

    def create_job(self, order: Order, training_file: str, validation_file: str, key: str) -> TuningJob:
        self._require_up()
        if (known := self.jobs.get(self.made.get(key, ""))) is not None:
            return known
        for file_id in (training_file, validation_file):
            if file_id not in self.files:
                raise TuningError(f"The file {file_id!r} does not exist.")
        number = len(self.jobs) + 1
        job = TuningJob(f"ftjob-{number}", "running", order.model, 1000 + number, metadata=order.metadata)
        self.jobs[job.id] = job
        self.made[key] = job.id
        return job

    def find_job(self, order: Order, *, since: float | None = None) -> TuningJob | None:
        self._require_up()
        ours = [job for job in reversed(self.jobs.values()) if job.metadata == order.metadata]
        late = [job for job in ours if since is not None and job.created_at >= since]
        return next(iter([*(job for job in ours if not job.fruitless), *late]), None)

    def retrieve_job(self, job_id: str) -> TuningJob:
        self._require_up()
        if job_id not in self.jobs:
            raise UnknownJobError(f"The job {job_id!r} does not exist.")
        return self.jobs[job_id]

    def cancel_job(self, job_id: str) -> None:
        if not self.retrieve_job(job_id).finished:
            self.finish(job_id, CANCELLED)

    async def watch_job(self, job_id: str) -> TuningJob:
        return self.retrieve_job(job_id)

    def download_file(self, file_id: str) -> bytes:
        self._require_up()
        return self.files[file_id][1]

    def measure(self, model: str, conversations: Sequence[Sequence[Message]]) -> Lengths | None:
        self._require_up()
        if self.limit is None:
            return None
        words = (sum(len(message["content"].split()) for message in each) for each in conversations)
        return Lengths(tuple(words), self.limit)

    def _store(self, name: str, content: bytes) -> str:
        file_id = f"file-{len(self.files) + 1}"
        self.files[file_id] = (name, content)
        return file_id

    def _require_up(self) -> None:
        if self.down:
            raise TuningUnavailableError("The fake provider is down.")
