"""Files that appear whole or not at all, whoever is killed and however many write the same one."""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

log = logging.getLogger(__name__)

_TEMPORARY: Final = re.compile(
    r"\.(((file|ftjob)-[0-9a-f]+|step-\d+)(\.\w+)?|[a-z]+(\.[a-z]+)*\.([0-9a-f]{8}|partial))"
)
"""The names that files and folders have while they are written or deleted; others' dot-files have none of them."""


def write_durably(path: Path, content: bytes) -> None:
    """Writes a file so that a crash leaves the old content or the new."""
    with replace_durably(path) as stream:
        stream.write(content)


@contextmanager
def replace_durably(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes are the file's content once the block ends without an error."""
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def write_atomically(target: Path) -> Iterator[Path]:
    """A path beside the target to write to; it takes the target's name when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def sweep_folder(folder: Path) -> int:
    """Takes away what a kill left half-written or half-deleted directly in a folder; returns how much it was.

    Only where nothing is being written there. What can't be taken away is logged and stays.
    """
    swept = 0
    for path in sorted(folder.glob(".*")):
        if not _TEMPORARY.fullmatch(path.name):
            continue
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            log.error("What a kill left can't be removed: %s: %s", path, error)
        else:
            swept += 1
    return swept


def _remove_leftovers(target: Path) -> None:
    """Takes away what processes that were killed have left of the same file."""
    for leftover in target.parent.glob(f".{target.name}.*"):
        pid = leftover.suffix[1:]
        if pid.isdigit() and not _runs(int(pid)):
            leftover.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
