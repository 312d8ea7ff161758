"""Jobs on disk: one folder each, the job as an atomic JSON file, its events and checkpoints beside it.

It knows no process and no HTTP.
"""

import logging
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from deployments.llm.disk import is_full_disk
from deployments.llm.durable_files import sweep_folder, write_durably
from deployments.llm.fine_tuning.events import append_event, read_events
from deployments.llm.fine_tuning.folder import (
    ADAPTER_FOLDER,
    checkpoint_dir,
    checkpoints_dir,
    read_base,
    read_checkpoints,
)
from deployments.llm.fine_tuning.job import Checkpoint, Event, Status
from deployments.llm.fine_tuning.record import Bookkeeping, JobRecord
from deployments.llm.records import UnreadableRecordError, read_record

__all__ = ["JobStore", "append_event", "read_events"]

log = logging.getLogger(__name__)

_ID: Final = re.compile(r"ftjob-[0-9a-f]{8,64}")
_RECORD: Final = "job.json"


class TunedModel(NamedTuple):
    """A fine-tuned model: the job that made it, and where its adapter is; `step` is that of a checkpoint's."""

    job: JobRecord
    directory: Path
    step: int | None

    @property
    def final(self) -> bool:
        """Whether it is the job's own, and no checkpoint."""
        return self.step is None

    @property
    def base(self) -> str:
        """The name of the base model that it was tuned on; empty where it isn't known."""
        return read_base(self.directory)


class JobStore:
    """The only writer of job files in the server; every change goes through `change`.

    What can't be read when the server starts is logged, stays as it is, and is in `unreadable` by its folder's name.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.RLock()
        self._jobs: dict[str, JobRecord] = {}
        self._unsaved: set[str] = set()
        self.unreadable: dict[str, UnreadableRecordError] = {}
        for path in sorted(directory.glob(f"ftjob-*/{_RECORD}")):
            name = path.parent.name
            try:
                job = read_record(path, JobRecord, name if _ID.fullmatch(name) else "")
            except UnreadableRecordError as error:
                log.error("A fine-tuning job is left out: %s", error)
                self.unreadable[name] = error
                continue
            if job is not None:
                self._jobs[job.id] = job

    def create(self, **fields: Any) -> JobRecord:
        """A new job, on disk before this returns; where the fields' `server` has a key that a job of the same asker
        has, that job."""
        job = JobRecord(id=f"ftjob-{uuid4().hex[:24]}", created_at=int(time.time()), **fields)
        with self._lock:
            if job.server.key is not None and (known := self.find_request(job.server.key, job.server.asker)):
                return known
            partial = self._directory / f".{job.id}"
            try:
                partial.mkdir(parents=True, mode=0o700)
                append_event(partial, "Created fine-tuning job")
                write_durably(partial / _RECORD, _dump(job))
                partial.rename(self.job_dir(job.id))
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            self._jobs[job.id] = job
        return job

    def sweep(self) -> int:
        """Takes away what a kill left half-written or half-deleted, while no trainer runs; returns how much it was.

        The folder of a job that can't be read stays as it is.
        """
        folders = [self.job_dir(job_id) for job_id in self._jobs]
        return sweep_folder(self._directory) + sum(
            sweep_folder(folder) + sweep_folder(checkpoints_dir(folder)) for folder in folders
        )

    def find_request(self, key: str, asker: str | None) -> JobRecord | None:
        """The job that a request of this asker's with this Idempotency-Key made, or None.

        One whose asker is not known counts for everyone. Raises UnreadableRecordError where it may be one that can't be
        read.
        """
        with self._lock:
            same = [job for job in self._jobs.values() if job.server.key == key]
        for who in (asker, None):
            for job in same:
                if job.server.asker == who:
                    return job
        self._check_readable()
        return None

    def get(self, job_id: str) -> JobRecord | None:
        """The job, or None. Raises UnreadableRecordError."""
        if job_id in self.unreadable:
            raise self.unreadable[job_id]
        return self._jobs.get(job_id)

    def list_all(self) -> "list[JobRecord]":
        """All jobs, newest first. Raises UnreadableRecordError while any can't be read: a list that lacks one would
        make whoever looks for theirs order, and pay for, another."""
        self._check_readable()
        return self.list()

    def _check_readable(self) -> None:
        for name, error in self.unreadable.items():
            if _ID.fullmatch(name):  # a folder whose name is no job's is not ours
                raise error

    def list(self) -> "list[JobRecord]":
        """The jobs that can be read, newest first."""
        with self._lock:
            jobs = list(self._jobs.values())
        # The sort is stable: of those made in the same second, the later one is the newer one.
        return sorted(jobs, key=lambda job: job.created_at)[::-1]

    def change(
        self, job_id: str, *, expected: Collection[Status] | None = None, **fields: Any
    ) -> JobRecord | None:
        """Changes a job and returns it; None, and no change, when its status was final or not as expected.

        On a full disk the change holds in memory, and `save` brings it to disk once there is room.
        """
        with self._lock:
            job = self._jobs[job_id]
            if job.ended or (expected is not None and job.status not in expected):
                return None
            changed = job.model_copy(update=fields)
            if changed.ended:
                changed.finished_at = int(time.time())
            try:
                self._write(changed)
            except OSError as error:
                if not is_full_disk(error):
                    raise
                log.error("The disk is full; that %s is %s is kept in memory", job_id, changed.status)
                self._jobs[job_id] = changed
                self._unsaved.add(job_id)
            return changed

    def note(self, job_id: str, change: Callable[[Bookkeeping], Mapping[str, Any]]) -> None:
        """Changes the server's notes on a job that has not ended; whoever else does so at once waits."""
        with self._lock:
            server = self._jobs[job_id].server
            self.change(job_id, server=server.model_copy(update=dict(change(server))))

    def save(self) -> None:
        """Writes what a full disk kept from being written; what still can't be is left for the next time."""
        with self._lock:
            for job_id in sorted(self._unsaved):
                try:
                    self._write(self._jobs[job_id])
                except OSError as error:
                    if not is_full_disk(error):
                        raise
                    return
                log.info("%s is on disk again", job_id)

    def events(self, job_id: str) -> Sequence[Event]:
        """The job's events, newest first."""
        return read_events(self.job_dir(job_id))[::-1]

    def checkpoints(self, job_id: str) -> Sequence[Checkpoint]:
        """Those of the job that can be served, by step: of epochs, and not deleted."""
        deleted = self._jobs[job_id].server.deleted
        found = read_checkpoints(self.job_dir(job_id))
        return [each for each in found if each.epoch is not None and each.step not in deleted]

    def models(self) -> dict[str, TunedModel]:
        """The fine-tuned models by id, oldest job first, its checkpoints before its own; none that was deleted."""
        found: dict[str, TunedModel] = {}
        for job in reversed(self.list()):
            for checkpoint in self.checkpoints(job.id):
                directory = checkpoint_dir(self.job_dir(job.id), checkpoint.step)
                found[job.name_checkpoint(checkpoint.step)] = TunedModel(job, directory, checkpoint.step)
            if job.fine_tuned_model and self.adapter_dir(job.id).is_dir():
                found[job.fine_tuned_model] = TunedModel(job, self.adapter_dir(job.id), None)
        return found

    def delete_model(self, model_id: str) -> bool:
        """Takes away a fine-tuned model or checkpoint; False when there was none. The job stays.

        A checkpoint stays on the disk, unseen, until its job has ended: the job may go on from it, or end with it.
        """
        model = self.models().get(model_id)
        if model is None:
            return False
        if (step := model.step) is not None:
            with self._lock:
                job = self._jobs[model.job.id]
                if step in job.server.deleted:  # another request was faster
                    return False
                if not job.ended:
                    self.note(job.id, lambda notes: {"deleted": [*notes.deleted, step]})
                    return True
        # Renamed first: a kill halfway leaves nothing that looks like an adapter.
        gone = model.directory.with_name(f".{model.directory.name}.{uuid4().hex[:8]}")
        try:
            model.directory.rename(gone)
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
        return self.job_dir(job_id) / ADAPTER_FOLDER

    def _write(self, job: JobRecord) -> None:
        write_durably(self.job_dir(job.id) / _RECORD, _dump(job))
        self._jobs[job.id] = job
        self._unsaved.discard(job.id)


def _dump(job: JobRecord) -> bytes:
    return job.model_dump_json(indent=1).encode()
