"""Makes a running job's checkpoints known to the engine as they appear.

It knows no process.
"""

import logging

from deployments.llm.engines.ports import ChatEngine
from deployments.llm.fine_tuning.events import append_event
from deployments.llm.fine_tuning.folder import checkpoint_dir, checkpoints_dir, read_checkpoints
from deployments.llm.fine_tuning.job import Job
from deployments.llm.fine_tuning.store import JobStore

log = logging.getLogger(__name__)


class CheckpointWatch:
    """Of one attempt; those that were there when it began are known."""

    def __init__(self, store: JobStore, engine: ChatEngine, job: Job) -> None:
        self._store, self._engine, self._job = store, engine, job
        self._directory = store.job_dir(job.id)
        checkpoints = read_checkpoints(self._directory)
        self._known = {checkpoint.step for checkpoint in checkpoints}
        self._seen = self._read_time()
        self.step = checkpoints[-1].step if checkpoints else None
        """The newest one's."""

    def look(self) -> None:
        """Offers what is new: cheap where nothing is."""
        now = self._read_time()
        if now == self._seen:
            return
        self._seen = now
        for checkpoint in read_checkpoints(self._directory):
            self.step = max(checkpoint.step, self.step or 0)
        for checkpoint in self._store.checkpoints(self._job.id):
            if checkpoint.step in self._known:
                continue
            self._known.add(checkpoint.step)
            name = self._job.name_checkpoint(checkpoint.step)
            self._engine.register_adapter(name, checkpoint_dir(self._directory, checkpoint.step), soon=False)
            append_event(self._directory, f"Checkpoint created at step {checkpoint.step} with name: {name}")

    def _read_time(self) -> int:
        """Of the folder, which a checkpoint that is moved into place changes."""
        try:
            return checkpoints_dir(self._directory).stat().st_mtime_ns
        except FileNotFoundError:
            return 0
