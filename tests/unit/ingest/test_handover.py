"""Files of a run under one URL: whole or not at all, a portion at a time, gone when done."""

import os
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from deployments.ingest import handover
from deployments.ingest.handover import GROUP_ROWS, KEEP_SECONDS, Handover, HandoverLostError

SCHEMA = pa.schema([("uri", pa.string()), ("text", pa.large_string()), ("number", pa.int64())])


def make_rows(count: int) -> list[dict[str, Any]]:
    return [{"uri": f"é\r\n{n}", "text": f"text {n}", "number": None if n % 2 else n} for n in range(count)]


@pytest.fixture(params=["file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Handover:
    fsspec.filesystem("memory").store.clear()
    return Handover(f"file://{tmp_path}/runs" if request.param == "file" else "memory://runs/below")


def test_rows_and_notes_come_back_as_they_were(root: Handover) -> None:
    files = root.open_run("manual__1")
    rows = make_rows(3)
    files.write_rows("rows.1", SCHEMA, rows, {"turn": 4, "names": ["a"]})
    files.write_rows("rows.2", SCHEMA, [])
    again = root.open_run("manual__1")
    assert list(again.read("rows.1")) == rows and list(again.read("rows.2")) == []
    assert again.read_notes("rows.1") == {"turn": 4, "names": ["a"]} and again.read_notes("rows.2") == {}
    assert again.list_names("rows.") == ["rows.1", "rows.2"] == again.list_names("")
    assert again.exists("rows.1") and not again.exists("rows.3")
    again.delete("rows.1")
    again.delete("rows.1")
    assert again.list_names("") == ["rows.2"]
    again.remove()
    again.remove()
    assert again.list_names("") == [] and root.open_run("manual__2").list_names("") == []


def test_a_row_group_is_what_was_written_together(root: Handover) -> None:
    files, rows = root.open_run("run"), make_rows(10)
    with files.write("parts", SCHEMA) as writer:
        writer.end_group(rows[:3])
        writer.add(rows[3])
        writer.end_group(rows[4:])
    assert writer.count == 10
    assert [len(group) for group in files.read_groups("parts")] == [3, 1, 6]
    assert files.read_group("parts", 2) == rows[4:]
    assert [table.num_rows for table in files.read_tables("parts")] == [3, 1, 6]
    with pytest.raises(HandoverLostError, match="no part 3"):
        files.read_group("parts", 3)


def test_many_or_large_rows_are_several_row_groups(root: Handover, monkeypatch: pytest.MonkeyPatch) -> None:
    files = root.open_run("run")
    files.write_rows("many", SCHEMA, make_rows(GROUP_ROWS + 1))
    assert [len(group) for group in files.read_groups("many")] == [GROUP_ROWS, 1]
    monkeypatch.setattr(handover, "GROUP_BYTES", 100)
    files.write_rows("large", SCHEMA, [{"uri": "", "text": "x" * 60, "number": 1}] * 5)
    assert [len(group) for group in files.read_groups("large")] == [2, 2, 1]


def test_a_file_is_there_whole_or_as_it_was(root: Handover) -> None:
    files, rows = root.open_run("run"), make_rows(GROUP_ROWS + 5)

    def break_off() -> None:
        with files.write("rows", SCHEMA) as writer:
            for row in rows:
                writer.add(row)
            raise ValueError

    for before in ([], rows[:1]):
        with pytest.raises(ValueError):
            break_off()
        assert files.list_names("") == ["rows"][: len(before)]
        if before:
            assert list(files.read("rows")) == before
        files.write_rows("rows", SCHEMA, rows[:1])
    place, folder = files._place
    assert [path.rsplit("/", 1)[-1] for path in place.find(folder)] == ["rows.parquet"]


def test_a_file_that_is_gone_says_what_to_do(root: Handover) -> None:
    with pytest.raises(HandoverLostError, match=r"run's file rows is gone.*Start a new run"):
        list(root.open_run("run").read("rows"))


ODD_RUN_IDS = [
    "..",
    ".",
    "",
    "a:b",
    "a/b",
    "a_b",
    "A_b",
    "../x",
    "x" * 250,
    "x" * 249 + "y",
    "é" * 250,
    "a\0b",
]


def test_each_run_has_a_folder_of_its_own_below_the_root(tmp_path: Path) -> None:
    root = Handover(f"file://{tmp_path}/runs")
    for number, run in enumerate(ODD_RUN_IDS):
        root.open_run(run).write_rows("rows", SCHEMA, make_rows(number))
    assert [len(list(root.open_run(run).read("rows"))) for run in ODD_RUN_IDS] == list(
        range(len(ODD_RUN_IDS))
    )
    folders = [path.name for path in (tmp_path / "runs").iterdir()]
    # Names that differ in more than case, for file systems that don't see it.
    assert len({name.lower() for name in folders}) == len(ODD_RUN_IDS) == len(folders)
    name = root.open_run("manual__2026-11-24T12:00:00+00:00/" + "x" * 60).name
    assert name.startswith(f"manual__2026-11-24T12_00_00+00_00_{'x' * 46}-") and len(name) == 80 + 1 + 32


def test_what_runs_left_behind_goes_after_seven_days(tmp_path: Path) -> None:
    root = Handover(f"file://{tmp_path}/runs")
    for run in ("now", "old", "kept"):
        root.open_run(run).write_rows("rows", SCHEMA, [])
    for run, age in (("old", KEEP_SECONDS + 60), ("kept", KEEP_SECONDS - 60)):
        path = tmp_path / "runs" / root.open_run(run).name / "rows.parquet"
        os.utime(path, (time.time() - age, time.time() - age))
    (tmp_path / "runs" / "gone").symlink_to("nowhere")
    root.remove_old()
    assert [root.open_run(run).list_names("") for run in ("now", "old", "kept")] == [["rows"], [], ["rows"]]
    Handover(f"file://{tmp_path}/none").remove_old()
