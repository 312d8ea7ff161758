"""Reading a growing file: whole lines, each once, whatever happens to the file."""

import ctypes
import errno
import hashlib
import os
from pathlib import Path

import pytest

from deployments.lineage import spool
from deployments.lineage.spool import Line, Position, read_lines, trim
from shared.lineage import append_line


def read(path: Path, position: Position) -> tuple[list[bytes], Position]:
    lines, after = read_lines(path, position)
    return [line.data for line in lines], after


def test_only_whole_lines_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"b": "\r"}\n{"c"')
    lines, position = read(path, Position())
    assert lines == [b'{"a": 1}', b'{"b": "\r"}']
    assert read(path, position) == ([], position)
    with path.open("ab") as file:
        file.write(b": 3}\n")
    lines, position = read(path, position)
    assert lines == [b'{"c": 3}'] and position.offset == path.stat().st_size


def test_no_file_no_lines(tmp_path: Path) -> None:
    assert read(tmp_path / "none", Position(3, 4)) == ([], Position(3, 4))


def test_the_offset_of_a_line_is_where_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes("é\n\nb\n".encode())
    lines, _ = read_lines(path, Position())
    assert [line.offset for line in lines] == [0, 4]


@pytest.mark.parametrize("content", [b"new\n", b"a much longer line than before\n"])
def test_a_file_that_took_anothers_place_is_read_from_its_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one line\ntwo\n")
    _, position = read(path, Position())
    path.write_bytes(content)  # same inode, shorter or longer
    assert read(path, position)[0] == [content.strip()]
    other = tmp_path / "other"
    other.write_bytes(content * 2)
    other.replace(path)
    assert read(path, position)[0] == [content.strip()] * 2


def test_a_line_that_is_too_long_is_skipped_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "CHUNK", 64)
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * 300)
    assert read_lines(path, Position())[0] == []
    with path.open("ab") as file:
        file.write(b"\nnext\n")
    (long,), position = read_lines(path, Position())
    assert long.too_long and long.offset == 0
    assert read(path, position)[0] == [b"next"]


@pytest.fixture
def long_spool(tmp_path: Path) -> tuple[Path, Position]:
    """A file of 3 MB, read to its end."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"%s\n" % (b"x" * 99) * 30_000)
    position = Position()
    while (after := read_lines(path, position)[1]) != position:
        position = after
    assert position.offset == path.stat().st_size == 3_000_000
    try:
        trim(path, Position(position.inode, 2))
    except OSError as error:
        pytest.skip(f"this file system gives no space back: {error}")
    return path, position


def test_trimming_gives_the_space_back_and_changes_nothing_for_those_who_append(
    long_spool: tuple[Path, Position],
) -> None:
    path, position = long_spool
    with path.open("ab", buffering=0) as writer:  # opened before, written after
        trim(path, position)
        writer.write(b"first\n")
    append_line(path, "second")
    assert path.stat().st_blocks * 512 < 20_000 and path.stat().st_size == 3_000_013
    lines, after = read(path, position)
    assert lines == [b"first", b"second"] and after == Position(position.inode, 3_000_013)


def test_a_trimmed_file_whose_place_is_forgotten_is_read_from_where_it_begins(
    long_spool: tuple[Path, Position],
) -> None:
    path, position = long_spool
    append_line(path, "next")
    trim(path, position)
    for offset in (
        0,
        1_000_000,
        *range(2_990_000, 3_000_000, 997),
    ):  # the ledger of an old backup, or a fresh one
        forgotten = Position(position.inode if offset else 0, offset)
        assert read(path, forgotten) == ([b"next"], Position(position.inode, 3_000_005))


def test_what_is_not_stored_is_never_trimmed(long_spool: tuple[Path, Position]) -> None:
    path, position = long_spool
    trim(path, Position(position.inode, 1_500_000))
    assert len(path.read_bytes()[1_500_000:].split()) == 15_000
    other = path.with_name("other")
    other.write_bytes(b"another file\n" * 300_000)
    other.replace(path)
    trim(path, position)
    assert path.read_bytes() == b"another file\n" * 300_000


def test_a_line_comes_with_the_digest_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\n \t\r\v\f\0\ntwo \n")
    lines, position = read_lines(path, Position())
    assert lines == [
        Line(0, b"one", hashlib.sha256(b"one").hexdigest()),
        Line(11, b"two ", hashlib.sha256(b"two ").hexdigest()),
    ]
    assert position == Position(path.stat().st_ino, 16)
    assert read_lines(path, Position(position.inode, 11)) == (lines[1:], position)


def test_a_line_of_four_mebibytes_is_taken_and_a_longer_one_is_an_excerpt(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    size = 4 * 1024 * 1024
    path.write_bytes(b"x" * (size - 1) + b"\n")
    (line,), position = read_lines(path, Position())
    assert (len(line.data), line.too_long, position.offset) == (size - 1, False, size)
    for length in (size, size + 1, 2 * size - 1, 2 * size, 2 * size + 1):
        content = b"first\n" + b"y" * length
        path.write_bytes(content)
        after = Position(path.stat().st_ino, 6)
        assert read_lines(path, after) == ([], after), "it may still be written"
        path.write_bytes(content + b"\nnext\n")
        digest = hashlib.sha256(b"y" * length).hexdigest()
        assert read_lines(path, after) == (
            [Line(6, b"y" * 200, digest, too_long=True)],
            Position(after.inode, 6 + length + 1),
        )


def test_five_thousand_lines_are_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x\n" * 5_001)
    lines, position = read_lines(path, Position())
    assert (len(lines), position.offset) == (5_000, 10_000)
    lines, position = read_lines(path, position)
    assert (len(lines), position.offset) == (1, 10_002)


def test_an_inode_is_no_larger_than_the_ledger_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems number their files with all 64 bits."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x\n")
    status = list(path.stat())
    status[1] = 2**64 - 1
    monkeypatch.setattr(os, "fstat", lambda descriptor: os.stat_result(status))
    lines, position = read_lines(path, Position())
    assert (len(lines), position) == (1, Position(2**63 - 1, 2))
    assert read(path, position) == ([], position)


def test_a_file_without_data_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    inode = path.stat().st_ino
    assert read_lines(path, Position()) == ([], Position(inode, 0))
    path.write_bytes(b"x\n")
    assert read(path, Position(inode, 5)) == ([b"x"], Position(inode, 2))
    assert read(path, Position(inode + 1, 2)) == ([b"x"], Position(inode, 2))


def test_trimming_leaves_the_newline_before_the_position(long_spool: tuple[Path, Position]) -> None:
    path, position = long_spool
    content = path.read_bytes()
    for wrong in (Position(), Position(position.inode, 1), Position(position.inode, 50)):
        before = path.stat().st_blocks
        trim(path, wrong)
        assert path.stat().st_blocks == before and path.read_bytes()[2:] == content[2:]
    trim(path, Position(position.inode, 1_500_000))
    assert path.read_bytes() == bytes(1_499_999) + content[1_499_999:]


def test_a_file_system_that_gives_no_space_back_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\ntwo\n")
    _, position = read(path, Position())

    class Library:
        """A C library without fallocate, as that of macOS."""

    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Library())
    with pytest.raises(OSError) as error:
        trim(path, position)
    assert (error.value.errno, error.value.strerror) == (errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("name", ["fallocate64", "fallocate"])
def test_what_the_system_is_asked_for_and_what_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"one\ntwo\n")
    _, position = read(path, Position())
    asked = []

    class Library:
        """A C library whose file system is asked, and refuses."""

    def refuse(descriptor: int, mode: int, start: ctypes.c_int64, length: ctypes.c_int64) -> int:
        asked.append((os.fstat(descriptor).st_ino, mode, start.value, length.value))
        ctypes.set_errno(errno.EPERM)
        return -1

    setattr(Library, name, staticmethod(refuse))
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name, use_errno: Library() if name is None and use_errno else None
    )
    with pytest.raises(OSError) as error:
        trim(path, position)
    assert (error.value.errno, error.value.strerror) == (errno.EPERM, os.strerror(errno.EPERM))
    # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, up to the newline before the position.
    assert asked == [(position.inode, 0x02 | 0x01, 0, 7)]


def test_a_hole_of_more_than_a_read_is_no_long_line(long_spool: tuple[Path, Position]) -> None:
    path = long_spool[0].with_name("larger")
    path.write_bytes(b"%s\n" % (b"x" * 99) * 60_000)
    inode = path.stat().st_ino
    trim(path, Position(inode, 6_000_000))
    append_line(path, "next")
    assert read(path, Position()) == ([b"next"], Position(inode, 6_000_005))


def test_the_smallest_places_are_places_too(long_spool: tuple[Path, Position]) -> None:
    path = long_spool[0].with_name("small")
    path.write_bytes(b"a\nb\n")
    inode = path.stat().st_ino
    assert read(path, Position(inode, 1))[0] == [b"a", b"b"], "no line ends there"
    assert read(path, Position(inode, 2))[0] == [b"b"]
    trim(path, Position(inode, 2))
    assert path.read_bytes() == b"\0\nb\n"
    path.write_bytes(b"\nb\n")
    trim(path, Position(inode, 1))
    assert path.read_bytes() == b"\nb\n", "there is nothing before the newline"
