"""Reads whole lines off a growing file, from a remembered place, and gives back the disk space of what is done with.

It knows no event and no database. A file that another one has replaced, or that was cut, is read from its start.
"""

import ctypes
import errno
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

CHUNK: Final = 4 * 1024 * 1024  # bytes per read; also the longest line that is taken
MAX_LINES: Final = 5_000  # per read: however short they are, the relay's heart beats between two reads
_EXCERPT: Final = 200
_BLANK: Final = b"\0 \t\r\v\f"
_LARGEST_INODE: Final = 2**63 - 1  # that the ledger can hold
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


@dataclass(frozen=True)
class Position:
    """Where to read on: everything before `offset` of the file with this `inode` is stored."""

    inode: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Line:
    """A line without its end; `too_long` ones are cut to an excerpt. `digest` is the SHA-256 of the whole line."""

    offset: int
    data: bytes
    digest: str = ""
    too_long: bool = False


def read_lines(path: Path, position: Position) -> tuple[list[Line], Position]:
    """Up to 4 MiB of whole, non-blank lines, and the position after them; no lines where there is nothing new."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return [], position
    with file:
        status = os.fstat(file.fileno())
        inode = _get_inode(status)
        is_same = _is_same_file(file, status, position)
        start = position.offset if is_same else _find_data(file)
        file.seek(start)
        data = file.read(CHUNK)
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) == CHUNK:
            return _skip_long_line(file, inode, start, data)
    lines = []
    offset = start
    for line in data[:end].split(b"\n")[:-1][:MAX_LINES]:
        if line.strip(_BLANK):
            lines.append(Line(offset, line, hashlib.sha256(line).hexdigest()))
        offset += len(line) + 1
    return lines, Position(inode, offset)


def trim(path: Path, position: Position) -> None:
    """Give back the disk space of all before the position; raises OSError where the file system can't.

    A hole is punched: the file keeps its name, its inode and its size, so nobody who appends needs to know, and a
    remembered place stays true. The newline before it stays, too: by that a file is known again.
    """
    with path.open("r+b") as file:
        if position.offset > 1 and _is_same_file(file, os.fstat(file.fileno()), position):
            _punch_hole(file.fileno(), position.offset - 1)


def _get_inode(status: os.stat_result) -> int:
    return status.st_ino & _LARGEST_INODE


def _is_same_file(file: BinaryIO, status: os.stat_result, position: Position) -> bool:
    if _get_inode(status) != position.inode or status.st_size < position.offset:
        return False
    # File systems give a deleted file's inode to the next one: then no line is likely to end just here. Where one
    # does not, reading from the start costs time only, because events are stored once.
    file.seek(max(position.offset - 1, 0))
    return position.offset == 0 or file.read(1) == b"\n"


def _find_data(file: BinaryIO) -> int:
    """Where a file begins that was trimmed, or 0."""
    place = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    try:
        return os.lseek(file.fileno(), 0, os.SEEK_DATA)
    except (OSError, AttributeError):  # an empty file; a system that knows no holes
        return 0
    finally:
        # Python's buffer takes the file to stand where it left it: else what is in it would be read a second time.
        os.lseek(file.fileno(), place, os.SEEK_SET)


def _punch_hole(descriptor: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(libc, "fallocate64", None) or getattr(libc, "fallocate", None)
    if fallocate is None:  # macOS
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    if fallocate(descriptor, _PUNCH_HOLE | _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(length)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _skip_long_line(file: BinaryIO, inode: int, start: int, data: bytes) -> tuple[list[Line], Position]:
    length, digest = len(data), hashlib.sha256(data)
    while part := file.readline(CHUNK):
        length += len(part)
        digest.update(part.removesuffix(b"\n"))
        if part.endswith(b"\n"):
            line = Line(start, data[:_EXCERPT], digest.hexdigest(), too_long=True)
            return [line], Position(inode, start + length)
    return [], Position(inode, start)  # still being written
