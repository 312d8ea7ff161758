"""What a full disk is, and what is said of it."""

import errno
from typing import Final

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
DISK_FULL: Final = "disk_full"
DISK_FULL_MESSAGE: Final = (
    "The disk that holds the LLM server's state folder is full. Free some space, then try again."
)


def is_full_disk(error: BaseException) -> bool:
    """Whether it says that nothing more can be written; no space, or the user's share is used up."""
    return isinstance(error, OSError) and error.errno in _FULL
