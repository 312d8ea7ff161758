"""A folder that one server at a time may have; the kernel gives it back, however the server ends."""

import fcntl
import os
from pathlib import Path
from typing import Final

from deployments.llm.disk import is_full_disk

_LOCK_FILE: Final = "server.lock"


class FolderInUseError(Exception):
    """Another server has the folder; the message names the folder, and the process where it is known."""


def lock_folder(directory: Path) -> int:
    """Makes the folder this process's own until it ends, however it ends; gives the descriptor that holds the lock.

    Processes that are started from here do not have it. Raises FolderInUseError, and OSError where it can't be made.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        named = f" (process {holder})" if holder.isdigit() else ""
        raise FolderInUseError(
            f"another LLM server{named} uses {directory}. Stop it first, or give this one a state folder of its own."
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    except OSError as error:  # the lock holds all the same
        if not is_full_disk(error):
            raise
    return descriptor
