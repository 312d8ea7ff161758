"""Checkpoints on disk: each is there whole or not at all, and tells whether it still is what was written.

It knows no model: what is in a checkpoint is written by the caller.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deployments.llm.fine_tuning.folder import (
    CHECKPOINT_FILE,
    CHECKPOINTS_FOLDER,
    checkpoint_dir,
    read_checkpoints,
)

ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")
_RESUMABLE: Final = 2
"""How many of the newest keep what a resume needs; the older ones keep their adapter."""


def save_checkpoint(
    job_dir: Path, step: int, epoch: int | None, metrics: Mapping[str, float], write: Callable[[Path], None]
) -> None:
    """Lets `write` fill a folder, then makes it the checkpoint of the step; older ones are thinned out.

    Raises what `write` raises; nothing half-written is left then.
    """
    target = checkpoint_dir(job_dir, step)
    partial = target.with_name(f".{target.name}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        note = {
            "step": step,
            "epoch": epoch,
            "metrics": dict(metrics),
            "created_at": int(time.time()),
            "files": {path.name: _digest(path) for path in sorted(partial.iterdir())},
        }
        (partial / CHECKPOINT_FILE).write_text(json.dumps(note, indent=1))
        _digest(partial / CHECKPOINT_FILE)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _thin_out(job_dir)


def find_resumable(job_dir: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is as it was written, and the names of newer ones that are not."""
    damaged: list[str] = []
    noted = {checkpoint.step for checkpoint in read_checkpoints(job_dir)}
    folders = [path for path in (job_dir / CHECKPOINTS_FOLDER).glob("step-*") if path.name[5:].isdigit()]
    for path in sorted(folders, key=lambda path: -int(path.name[5:])):
        if int(path.name[5:]) in noted and _is_whole(path):
            return path, damaged
        damaged.append(path.name)
    return None, damaged


def remove_leftovers(job_dir: Path) -> None:
    """Takes away what a kill left half-written."""
    for path in (job_dir / CHECKPOINTS_FOLDER).glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def copy_adapter(checkpoint: Path, target: Path) -> None:
    """Puts the checkpoint's adapter into `target`, which is there whole or not at all."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name in ADAPTER_FILES:
            shutil.copyfile(checkpoint / name, partial / name)
            _digest(partial / name)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _thin_out(job_dir: Path) -> None:
    """Those in mid-epoch go when there is a newer one; those of older epochs keep the adapter alone."""
    *older, _ = read_checkpoints(job_dir)
    for checkpoint in older:
        if checkpoint.epoch is None:
            folder = checkpoint_dir(job_dir, checkpoint.step)
            gone = folder.with_name(f".{folder.name}.gone")
            folder.rename(gone)  # a kill halfway leaves nothing that looks like a checkpoint
            shutil.rmtree(gone, ignore_errors=True)
    for checkpoint in read_checkpoints(job_dir)[:-_RESUMABLE]:
        for path in checkpoint_dir(job_dir, checkpoint.step).iterdir():
            if path.name not in (*ADAPTER_FILES, CHECKPOINT_FILE):
                path.unlink()


def _is_whole(folder: Path) -> bool:
    try:
        files: dict[str, str] = json.loads((folder / CHECKPOINT_FILE).read_bytes())["files"]
        return all(_digest(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _digest(path: Path) -> str:
    """The file's digest, once it is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()
