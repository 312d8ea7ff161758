"""A run's folder: whole files, a name of its own, kept for seven days."""

import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from deployments.ingest.batches import KEEP_SECONDS, RunFolder

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


def test_each_run_has_a_folder_of_its_own_below_the_runs_folder(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path, run_id) for run_id in ODD_RUN_IDS]
    for number, folder in enumerate(folders):
        folder.empty()
        folder.write("rows", [number])
    runs = tmp_path / "ingest" / "runs"
    assert sorted(path.resolve() for path in runs.iterdir()) == sorted(f.path.resolve() for f in folders)
    assert [list(folder.read("rows")) for folder in folders] == [[n] for n in range(len(ODD_RUN_IDS))]
    # Names that differ in more than case, for file systems that don't see it.
    assert len({folder.path.name.lower() for folder in folders}) == len(ODD_RUN_IDS)
    long_ago = time.time() - KEEP_SECONDS - 60
    for folder in folders[1:]:
        os.utime(folder.path, (long_ago, long_ago))
    folders[0].write("other", [])
    folders[0].keep_only("rows")
    assert [path.name for path in runs.glob("*/*")] == ["rows.jsonl"]
    assert [path.name for path in runs.iterdir()] == [folders[0].path.name]


def test_the_folder_of_a_run_shows_eighty_characters_of_its_id(tmp_path: Path) -> None:
    run_id = "manual__2026-11-24T12:00:00+00:00/" + "x" * 60
    digest = hashlib.sha256(run_id.encode()).hexdigest()[:32]
    assert RunFolder(tmp_path, run_id).path == (
        tmp_path / "ingest/runs" / f"manual__2026-11-24T12_00_00+00_00_{'x' * 46}-{digest}"
    )


def test_a_file_of_a_run_is_there_whole_or_as_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "run")

    def break_off() -> Any:
        yield {"text": "new"}
        raise ValueError

    assert folder.write("rows", [{"text": "é\r\n"}, None]) == 2
    assert (folder.path / "rows.jsonl").read_bytes() == '{"text": "é\\r\\n"}\nnull\n'.encode()
    with pytest.raises(ValueError):
        folder.write("rows", break_off())
    assert list(folder.read("rows")) == [{"text": "é\r\n"}, None]
    assert folder.write("rows-2", []) == folder.write("other", []) == 0
    assert folder.list_names("rows") == ["rows", "rows-2"]
    folder.keep_only("rows")
    assert [path.name for path in folder.path.iterdir()] == ["rows.jsonl"]
    folder.empty()
    folder.empty()
    assert folder.path.is_dir() and folder.list_names("") == []
    with pytest.raises(FileNotFoundError) as error:
        folder.read("rows")
    assert str(error.value) == (
        "This run's file rows is gone: the run has ended, or was planned anew. Clear its task `plan` with everything "
        "after it, or start a new run."
    )


def test_the_folder_of_a_run_is_kept_for_seven_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("now", "kept", "old")
    now, kept, old = folders = [RunFolder(tmp_path, name) for name in names]
    for folder in folders:
        folder.write("rows", [1])
    moment = 2_000_000_000
    os.utime(kept.path, (moment - 7 * 24 * 3600, moment - 7 * 24 * 3600))
    os.utime(old.path, (moment - 7 * 24 * 3600 - 1, moment - 7 * 24 * 3600 - 1))
    monkeypatch.setattr(time, "time", lambda: moment)
    os.utime(now.path, (moment, moment))
    now.keep_only("rows")
    assert [folder.path.exists() for folder in folders] == [True, True, False]
    assert list(kept.read("rows")) == [1]


def test_a_file_that_another_try_of_the_run_removes_meanwhile_is_gone_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, unlink = RunFolder(tmp_path, "run"), Path.unlink
    for name in ("rows", "other"):
        folder.write(name, [1])

    def unlink_late(path: Path, missing_ok: bool = False) -> None:
        unlink(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_late)
    folder.keep_only("rows")
    assert folder.list_names("") == ["rows"]


def test_what_another_run_tidies_up_at_the_same_time_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, old = RunFolder(tmp_path, "now"), RunFolder(tmp_path, "long ago")
    for one in (folder, old):
        one.write("rows", ["ä"])
    long_ago = time.time() - KEEP_SECONDS - 60
    os.utime(old.path, (long_ago, long_ago))
    (folder.path.parent / "gone").symlink_to("nowhere")
    asked: list[tuple[Path, bool]] = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, *, ignore_errors: asked.append((path, ignore_errors)))
    folder.empty()  # and what could not be removed stays
    folder.keep_only("rows")
    assert asked == [(folder.path, True), (old.path, True)]
    assert list(folder.read("rows")) == ["ä"]
