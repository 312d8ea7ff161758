"""Reading a growing file: whole lines, each once, whatever happens to the file."""

from pathlib import Path

import pytest

from deployments.lineage import spool
from deployments.lineage.spool import Position, read_lines, trim
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
    for forgotten in (Position(), Position(position.inode, 1_000_000)):  # the ledger of an old backup
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
