"""Jobs on disk: one folder each, the job as an atomic JSON file, its events as appended lines.

It knows no process and no HTTP; server and trainer share it.
"""

import logging
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import ValidationError

from deployments.llm.fine_tuning.job import Event, Job
from deployments.llm.records import UnreadableRecordError, read_record
from deployments.llm.uploads import write_durably

log = logging.getLogger(__name__)

_ID: Final = re.compile(r"ftjob-[0-9a-f]{8,64}")
_EVENTS: Final = "events.jsonl"


class JobStore:
    """The only writer of job files in the server; every change goes through `change`.

    What can't be read when the server starts is logged, stays as it is, and is in `unreadable` by its folder's name.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self.unreadable: dict[str, UnreadableRecordError] = {}
        for path in sorted(directory.glob("ftjob-*/job.json")):
            name = path.parent.name
            try:
                job = read_record(path, Job, name if _ID.fullmatch(name) else "")
            except UnreadableRecordError as error:
                log.error("A fine-tuning job is left out: %s", error)
                self.unreadable[name] = error
                continue
            if job is not None:
                self._jobs[job.id] = job

    def create(self, **fields: Any) -> Job:
        """A new job, on disk before this returns."""
        job = Job(id=f"ftjob-{uuid4().hex[:24]}", created_at=int(time.time()), **fields)
        with self._lock:
            self.job_dir(job.id).mkdir(parents=True, mode=0o700)
            append_event(self.job_dir(job.id), "Created fine-tuning job")
            self._write(job)
        return job

    def get(self, job_id: str) -> Job | None:
        """The job, or None. Raises UnreadableRecordError."""
        if job_id in self.unreadable:
            raise self.unreadable[job_id]
        return self._jobs.get(job_id)

    def list_all(self) -> "list[Job]":
        """All jobs, newest first. Raises UnreadableRecordError while any can't be read: a list that lacks one would
        make whoever looks for theirs order, and pay for, another. A folder whose name is no job's is not ours."""
        for name, error in self.unreadable.items():
            if _ID.fullmatch(name):
                raise error
        return self.list()

    def list(self) -> "list[Job]":
        """The jobs that can be read, newest first."""
        with self._lock:
            jobs = list(self._jobs.values())
        return sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)

    def change(self, job_id: str, **fields: Any) -> Job | None:
        """Changes a job and returns it; None, and no change, when its status was final already."""
        with self._lock:
            job = self._jobs[job_id]
            if job.ended:
                return None
            changed = job.model_copy(update=fields)
            if changed.ended:
                changed.finished_at = int(time.time())
            self._write(changed)
            return changed

    def events(self, job_id: str) -> Sequence[Event]:
        """The job's events, newest first."""
        return read_events(self.job_dir(job_id))[::-1]

    def fine_tuned_models(self) -> dict[str, Job]:
        """Servable models by id, oldest first."""
        return {
            job.fine_tuned_model: job
            for job in reversed(self.list())
            if job.fine_tuned_model and self.adapter_dir(job.id).is_dir()
        }

    def delete_model(self, model_id: str) -> bool:
        """Removes the adapter of a fine-tuned model; False when there was none. The job stays."""
        job = self.fine_tuned_models().get(model_id)
        if job is None:
            return False
        gone = self.job_dir(job.id) / f".adapter.{uuid4().hex[:8]}"
        try:
            self.adapter_dir(job.id).rename(gone)
        except FileNotFoundError:  # another request was faster
            return False
        shutil.rmtree(gone)
        return True

    def count_by_status(self) -> dict[str, int]:
        """How many jobs there are in each status."""
        return dict(Counter(job.status for job in self.list()))

    def job_dir(self, job_id: str) -> Path:
        """The job's folder."""
        if not _ID.fullmatch(job_id):
            raise ValueError(f"not a job id: {job_id!r}")
        return self._directory / job_id

    def adapter_dir(self, job_id: str) -> Path:
        """Where the job's adapter is once it has succeeded."""
        return self.job_dir(job_id) / "adapter"

    def _write(self, job: Job) -> None:
        write_durably(self.job_dir(job.id) / "job.json", job.model_dump_json(indent=1).encode())
        self._jobs[job.id] = job


def append_event(
    job_dir: Path,
    message: str,
    *,
    level: Literal["info", "warn", "error"] = "info",
    data: dict[str, Any] | None = None,
    now: Callable[[], float] = time.time,
) -> None:
    """Appends one event; safe from several processes, as one line is one write."""
    event = Event(
        id=f"ftevent-{uuid4().hex[:24]}",
        created_at=int(now()),
        level=level,
        message=message,
        type="metrics" if data else "message",
        data=data or {},
    )
    path = job_dir / _EVENTS
    with path.open("ab", buffering=0) as stream:
        stream.write(event.model_dump_json().encode() + b"\n")


def read_events(job_dir: Path) -> list[Event]:
    """All events in order; a line torn by a kill, or damaged since, is left out."""
    try:
        lines = (job_dir / _EVENTS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            events.append(Event.model_validate_json(line))
        except ValidationError:
            continue
    return events
