"""The names in a job's folder, which server and trainer share, and the checkpoints that are whole."""

import json
import logging
import re
from pathlib import Path
from typing import Final

from deployments.llm.engines.weights import name_weights
from deployments.llm.fine_tuning.job import Checkpoint
from deployments.llm.records import UnreadableRecordError, read_record

log = logging.getLogger(__name__)

TRAIN_FILE: Final = "train.jsonl"
VALIDATION_FILE: Final = "validation.jsonl"
RESULT_FILE: Final = "result.json"
METRICS_FILE: Final = "metrics.csv"
ADAPTER_FOLDER: Final = "adapter"
ADAPTER_CONFIG_FILE: Final = "adapter_config.json"
CHECKPOINTS_FOLDER: Final = "checkpoints"
CHECKPOINT_FILE: Final = "checkpoint.json"
_CHECKPOINT: Final = re.compile(r"step-(\d{1,12})")


def checkpoints_dir(job_dir: Path) -> Path:
    """Where the checkpoints are; there may be none yet."""
    return job_dir / CHECKPOINTS_FOLDER


def checkpoint_dir(job_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step is; peft's adapter lies directly in it."""
    return checkpoints_dir(job_dir) / f"step-{step}"


def read_base(adapter: Path) -> str:
    """The name of the base model that an adapter was trained on, as peft noted it; empty where it can't be read."""
    try:
        noted = json.loads((adapter / ADAPTER_CONFIG_FILE).read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return name_weights(noted) if isinstance(noted, str) else ""


def read_checkpoints(job_dir: Path) -> list[Checkpoint]:
    """Those that are whole, by step. One that can't be read is logged and left out."""
    found = []
    for path in checkpoints_dir(job_dir).glob("step-*"):
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
