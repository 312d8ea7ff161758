"""The names in a job's folder, which server and trainer share, and the checkpoints that are whole."""

import logging
import re
from pathlib import Path
from typing import Final

from deployments.llm.fine_tuning.job import Checkpoint
from deployments.llm.records import UnreadableRecordError, read_record

log = logging.getLogger(__name__)

TRAIN_FILE: Final = "train.jsonl"
VALIDATION_FILE: Final = "validation.jsonl"
RESULT_FILE: Final = "result.json"
METRICS_FILE: Final = "metrics.csv"
ADAPTER_FOLDER: Final = "adapter"
CHECKPOINTS_FOLDER: Final = "checkpoints"
CHECKPOINT_FILE: Final = "checkpoint.json"
_CHECKPOINT: Final = re.compile(r"step-(\d{1,12})")


def checkpoint_dir(job_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step is; peft's adapter lies directly in it."""
    return job_dir / CHECKPOINTS_FOLDER / f"step-{step}"


def read_checkpoints(job_dir: Path) -> list[Checkpoint]:
    """Those that are whole, by step. One that can't be read is logged and left out."""
    found = []
    for path in (job_dir / CHECKPOINTS_FOLDER).glob("step-*"):
        match = _CHECKPOINT.fullmatch(path.name)
        if match is None:
            continue
        try:
            checkpoint = read_record(path / CHECKPOINT_FILE, Checkpoint)
        except UnreadableRecordError as error:
            log.error("A checkpoint is left out: %s", error)
            continue
        if checkpoint is not None and checkpoint.step == int(match[1]):
            found.append(checkpoint)
    return sorted(found, key=lambda checkpoint: checkpoint.step)
