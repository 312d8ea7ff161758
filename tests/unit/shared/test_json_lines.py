"""Lines of JSON hold any text, and come apart at "\\n" alone."""

import json
from pathlib import Path

import pytest

from shared.json_lines import format_row, split_lines
from tests.json_rows import read_rows

ENDS = [character for character in map(chr, range(0x3000)) if len(f"a{character}b".splitlines()) > 1]


def test_python_knows_these_line_ends() -> None:
    assert {"\n", "\r", "\x85", "\u2028", "\u2029"} <= set(ENDS)


def name_end(end: str) -> str:
    """`U+2028`: as the name of a test, a quoted escape is not found again."""
    return f"U+{ord(end):04X}"


@pytest.mark.parametrize("end", ENDS, ids=name_end)
def test_a_row_comes_back_whole_and_is_one_line_for_any_reader(end: str, tmp_path: Path) -> None:
    rows = [{"text": f"a{end}b"}, [f"{end}{end}"], end]
    text = "".join(f"{format_row(row)}\n" for row in rows)
    assert len(text.splitlines()) == 3
    assert [json.loads(line) for line in split_lines(text)] == rows
    (tmp_path / "rows.jsonl").write_bytes(text.encode())
    assert list(read_rows(tmp_path / "rows.jsonl")) == rows


@pytest.mark.parametrize("end", [end for end in ENDS if end >= " "], ids=name_end)
def test_a_line_of_another_writer_is_read_as_one(end: str, tmp_path: Path) -> None:
    text = json.dumps({"text": f"a{end}b"}, ensure_ascii=False) + "\n\n"
    assert [json.loads(line) for line in split_lines(text)] == [{"text": f"a{end}b"}]
    (tmp_path / "rows.jsonl").write_bytes(text.encode())
    assert list(read_rows(tmp_path / "rows.jsonl")) == [{"text": f"a{end}b"}]


def test_other_text_stays_readable() -> None:
    assert format_row({"text": "Häkchen – 日本"}) == '{"text": "Häkchen – 日本"}'
