"""Why a job failed, in words: from errors of the server and from how a trainer ended.

It knows no process and no storage.
"""

import errno
import os
import signal
from typing import Final

from deployments.llm.disk import DISK_FULL, DISK_FULL_MESSAGE, is_full_disk
from deployments.llm.fine_tuning.job import JobFailure, TrainingResult

FRUITLESS_LIMIT: Final = 3
"""So often may a trainer die in a row without one more checkpoint."""
_ROOM_NEEDED: Final = 1024 * 1024


class InvalidFileError(Exception):
    """A file of the job's can't be used; `param` is the one that names it."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param}: {reason}")
        self.param = param


def describe_error(error: Exception) -> JobFailure:
    """What the job's client is told of an error that the server met."""
    if isinstance(error, InvalidFileError):
        return JobFailure(code=f"invalid_{error.param}", message=str(error), param=error.param)
    if is_full_disk(error):
        return JobFailure(code=DISK_FULL, message=DISK_FULL_MESSAGE)
    return JobFailure(code="server_error", message=f"{type(error).__name__}: {error}")


def describe_end(exit_code: int, result: TrainingResult, free_bytes: int) -> JobFailure:
    """What is told of a trainer that ended without success; `free_bytes` are those left on its disk."""
    if result.error and os.strerror(errno.ENOSPC) in result.error:
        return JobFailure(code=DISK_FULL, message=DISK_FULL_MESSAGE)
    if result.error:
        return JobFailure(code=result.code or "training_failed", message=result.error)
    if free_bytes < _ROOM_NEEDED:  # it could not even leave a result
        return JobFailure(code=DISK_FULL, message=DISK_FULL_MESSAGE)
    message = f"The trainer ended with code {exit_code}; see trainer.log."
    return JobFailure(code="training_failed", message=message)


def describe_deaths(exit_code: int, step: int | None) -> JobFailure:
    """What is told once a trainer has died too often."""
    place = "before its first checkpoint" if step is None else f"without getting beyond step {step}"
    return JobFailure(
        code="training_failed",
        message=f"The trainer died {FRUITLESS_LIMIT} times in a row {place} ({name_death(exit_code)}); see "
        "trainer.log. Where nobody ended it, the machine is likely short of memory: take a smaller batch_size.",
    )


def died(exit_code: int) -> bool:
    """Whether something ended the trainer from outside, or it crashed: another attempt may fare better."""
    return name_death(exit_code) != ""


def name_death(exit_code: int) -> str:
    """The signal that ended a process; empty where it ended by itself. Shells and Python's exit say 128 + signal."""
    number = -exit_code if exit_code < 0 else exit_code - 128
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
