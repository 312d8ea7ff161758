"""What a trainer left, and what of it goes to the job's client: the table of its training, its adapter as a file.

It knows no process and no status.
"""

import hashlib
import logging
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final

from deployments.llm.fine_tuning.folder import (
    ADAPTER_FOLDER,
    CHECKPOINT_FILE,
    METRICS_FILE,
    RESULT_FILE,
    checkpoint_dir,
    checkpoints_dir,
    read_checkpoints,
)
from deployments.llm.fine_tuning.job import Checkpoint, Job, TrainingResult
from deployments.llm.records import UnreadableRecordError, read_record
from deployments.llm.uploads import FileStore

log = logging.getLogger(__name__)

_PURPOSE: Final = "fine-tune-results"
_BEGINNING: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can tell: the same adapter gives the same bytes."""
_SERVED: Final = frozenset({CHECKPOINT_FILE, "adapter_config.json", "adapter_model.safetensors"})


def read_result(directory: Path) -> TrainingResult:
    """What the trainer said at its end; nothing where it left nothing, or what can't be read."""
    try:
        return read_record(directory / RESULT_FILE, TrainingResult) or TrainingResult()
    except UnreadableRecordError as error:
        log.error("%s has no result: %s", directory.name, error)
        return TrainingResult()


def publish_results(job: Job, directory: Path, files: FileStore) -> list[str]:
    """Ids of the files made: metrics, then the adapter as a zip file. All or none. Raises OSError.

    The ids are the job's own: what an attempt before has published is replaced.
    """
    metrics_id, adapter_id = ids = _name_results(job)
    try:
        with (directory / METRICS_FILE).open("rb") as table:
            files.add(table, f"{job.id}_metrics.csv", _PURPOSE, metrics_id)
        with TemporaryFile(dir=directory) as archive:
            pack_folder(directory / ADAPTER_FOLDER, archive)
            archive.seek(0)
            files.add(archive, f"{job.id}_adapter.zip", _PURPOSE, adapter_id)
    except BaseException:
        withdraw_results(job, files)
        raise
    return ids


def withdraw_results(job: Job, files: FileStore) -> None:
    """Takes them back, where there are any; what can't be taken back is logged."""
    for file_id in _name_results(job):
        try:
            files.discard(file_id)
        except OSError as error:
            log.error("The file %s stays, though %s has no model: %s", file_id, job.id, error)


def _name_results(job: Job) -> list[str]:
    names = (METRICS_FILE, ADAPTER_FOLDER)
    return [f"file-{hashlib.sha256(f'{job.id} {name}'.encode()).hexdigest()[:24]}" for name in names]


def pack_folder(folder: Path, target: BinaryIO) -> None:
    """A zip file of the folder's own files; the same files give the same bytes. Weights are not worth compressing."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                entry = zipfile.ZipInfo(path.name, _BEGINNING)
                entry.external_attr = 0o644 << 16
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as part:
                    shutil.copyfileobj(source, part)


def drop_trainer_state(directory: Path, served: Sequence[Checkpoint]) -> None:
    """Leaves of a job that has ended the checkpoints that are `served`, without the optimiser's state: that is twice an
    adapter's size."""
    steps = {checkpoint.step for checkpoint in served}
    try:
        for checkpoint in read_checkpoints(directory):
            folder = checkpoint_dir(directory, checkpoint.step)
            if checkpoint.step not in steps:
                shutil.rmtree(folder)
                continue
            for path in folder.iterdir():
                if path.name not in _SERVED:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in checkpoints_dir(directory).glob(".*"):  # a checkpoint that was being written
            shutil.rmtree(path)
    except OSError as error:
        log.warning("Something of the trainer's stays in %s: %s", directory.name, error)
