"""Reads whole lines off a growing file, from a remembered place.

It knows no event and no database. A file that another one has replaced, or that was cut, is read from its start.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

CHUNK: Final = 4 * 1024 * 1024  # bytes per read; also the longest line that is taken
_EXCERPT: Final = 200


@dataclass(frozen=True)
class Position:
    """Where to read on: everything before `offset` of the file with this `inode` is stored."""

    inode: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Line:
    """A line without its end; `too_long` ones are cut to an excerpt."""

    offset: int
    data: bytes
    too_long: bool = False


def read_lines(path: Path, position: Position) -> tuple[list[Line], Position]:
    """Up to 4 MiB of whole, non-blank lines, and the position after them; no lines where there is nothing new."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return [], position
    with file:
        status = os.fstat(file.fileno())
        start = position.offset if _is_same_file(file, status, position) else 0
        file.seek(start)
        data = file.read(CHUNK)
        end = data.rfind(b"\n") + 1
        if end == 0 and len(data) == CHUNK:
            return _skip_long_line(file, status.st_ino, start, data)
    lines = []
    offset = start
    for line in data[:end].split(b"\n")[:-1]:
        if line.strip():
            lines.append(Line(offset, line))
        offset += len(line) + 1
    return lines, Position(status.st_ino, start + end)


def _is_same_file(file: BinaryIO, status: os.stat_result, position: Position) -> bool:
    if status.st_ino != position.inode or status.st_size < position.offset:
        return False
    # File systems give a deleted file's inode to the next one: then no line is likely to end just here. Where one
    # does not, reading from the start costs time only, because events are stored once.
    file.seek(max(position.offset - 1, 0))
    return position.offset == 0 or file.read(1) == b"\n"


def _skip_long_line(file: BinaryIO, inode: int, start: int, data: bytes) -> tuple[list[Line], Position]:
    length = len(data)
    while part := file.readline(CHUNK):
        length += len(part)
        if part.endswith(b"\n"):
            return [Line(start, data[:_EXCERPT], too_long=True)], Position(inode, start + length)
    return [], Position(inode, start)  # still being written
