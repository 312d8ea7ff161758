"""Copies a job's files into its folder, and refuses what its trainer could not use.

It knows no thread and no status.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from deployments.llm.durable_files import replace_durably
from deployments.llm.engines.ports import ChatEngine
from deployments.llm.fine_tuning.examples import BadExampleError, Conversation, Line, read_lines, scan_lines
from deployments.llm.fine_tuning.failures import InvalidFileError
from deployments.llm.fine_tuning.folder import TRAIN_FILE, VALIDATION_FILE
from deployments.llm.fine_tuning.job import Job
from deployments.llm.uploads import FileStore

_COPIES: Final = {"training_file": TRAIN_FILE, "validation_file": VALIDATION_FILE}


_SHORTEST: Final = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


class AbandonedError(Exception):
    """Nobody waits for the files any more."""


def copy_files(
    job: Job, directory: Path, files: FileStore, engine: ChatEngine, check_wanted: Callable[[], bool]
) -> dict[str, int]:
    """Examples by parameter. A copy: the job must not change or break when an upload is deleted.

    Each file is checked line by line as it is copied: its form, its method, and that every example fits the model's
    context. Raises InvalidFileError, AbandonedError as soon as `check_wanted` says no, NotReadyError,
    QueueFullError, and OSError.
    """
    counts = {}
    for param, file_id in (("training_file", job.training_file), ("validation_file", job.validation_file)):
        if file_id is None:
            continue
        try:
            source = files.content_path(file_id).open("rb")
        except FileNotFoundError as error:
            raise InvalidFileError(param, "the file is gone; upload it again.") from error
        with source, replace_durably(directory / _COPIES[param]) as target:
            try:
                counts[param] = _copy(source, target, job, engine, check_wanted)
            except BadExampleError as error:
                raise InvalidFileError(param, str(error)) from error
    return counts


def has_copies(job: Job, directory: Path) -> bool:
    """Whether all its files were checked and copied before."""
    names = [TRAIN_FILE] + ([VALIDATION_FILE] if job.validation_file else [])
    return all((directory / name).is_file() for name in names)


def _copy(
    source: BinaryIO, target: BinaryIO, job: Job, engine: ChatEngine, check_wanted: Callable[[], bool]
) -> int:
    count, frame = 0, engine.count_tokens(_SHORTEST)
    for line in scan_lines(read_lines(source), job.method_type):
        if not check_wanted():
            raise AbandonedError(job.id)
        _check_length(line, engine, frame)
        target.write(line.content.rstrip(b"\r\n") + b"\n")
        count += 1
    return count


def _check_length(line: Line, engine: ChatEngine, frame: int) -> None:
    """`frame` is what the chat template adds to an example. Only what may be too long is counted: that takes time."""
    most = max(_bound_tokens(conversation, frame) for conversation in line.conversations)
    if most <= engine.max_model_len:
        return
    tokens = max(engine.count_tokens(conversation) for conversation in line.conversations)
    if tokens > engine.max_model_len:
        raise BadExampleError(
            f"Line {line.number}: the example has {tokens} tokens, and the model's context is "
            f"{engine.max_model_len}. Shorten it, or raise GHOSTWRITER_LLM_MAX_MODEL_LEN up to what the model can."
        )


def _bound_tokens(conversation: Conversation, frame: int) -> int:
    """More tokens than it can have: a token is a byte at least, and each message has its marks."""
    return sum(len(message["content"].encode()) + frame for message in conversation)
