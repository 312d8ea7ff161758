"""What went wrong in a training, in words that its owner can act on.

It knows no model.
"""

import errno
import shutil
from pathlib import Path
from typing import Final

from deployments.llm.disk import DISK_FULL
from deployments.llm.engines.weights import WeightsMissingError

_LEAST_BYTES: Final = 50_000_000
"""A checkpoint of the bundled model has some 30 MB."""
_SIGNS: Final = (
    "no space left",
    "file write failed",
    "writefile",
    "disk quota",
    "unexpected pos",
    "file too large",
)


def explain(error: Exception, directory: Path) -> str:
    """The reason. Libraries hide a full disk in errors of their own, so the disk is looked at too."""
    if _is_disk_full(error, directory):
        free = shutil.disk_usage(directory).free / 1e6
        return (
            f"The disk is full: {free:.0f} MB are free where the job's checkpoints go. Make room, then create the "
            "job anew."
        )
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return f"Not enough memory: use a smaller batch_size or shorter examples. ({error})"
    if isinstance(error, ValueError | WeightsMissingError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def name_code(error: Exception, directory: Path) -> str | None:
    """The code that the job's client is told; None: the server's own."""
    return DISK_FULL if _is_disk_full(error, directory) else None


def _is_disk_full(error: BaseException, directory: Path) -> bool:
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if any(sign in str(chain).lower() for sign in _SIGNS):
            return True
        chain = chain.__cause__ or chain.__context__
    return isinstance(error, OSError | RuntimeError) and shutil.disk_usage(directory).free < _LEAST_BYTES
