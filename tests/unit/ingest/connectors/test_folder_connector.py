"""A folder as a source: the contract, and what file systems can hold."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployments.ingest.connectors.port import (
    MAX_BYTES,
    Connector,
    DocumentUnreadableError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.connectors.registry import build_connector
from deployments.ingest.model import Source
from tests.connector_contract import ConnectorContract, Place, remember
from tests.unit.ingest.conftest import close_folder


class FolderPlace(Place):
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder / "docs", monkeypatch
        self.folder.mkdir()
        self.environment = Environment(folder, folder / "state", "", lambda name: "")
        self.options: tuple[tuple[str, object], ...] = ()

    def connect(self) -> Connector:
        return build_connector(Source("docs", "folder", (*self.options, ("path", "docs"))), self.environment)

    def save(self, documents: Mapping[str, bytes]) -> None:
        for path, content in documents.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(content)

    def save_too_large(self, path: str) -> None:
        with (self.folder / path).open("wb") as file:
            file.truncate(200_000_000)

    def delete(self, path: str) -> None:
        (self.folder / path).unlink()

    def break_listing(self) -> None:
        self.save({"deep/er/four.md": b"four"})
        fail_to_list(self._patch, "er", 5)


def fail_to_list(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Listing folders of this name fails as on a disk or mount that is failing."""
    scandir = os.scandir

    def fail(path: str) -> object:
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderPlace:
    return FolderPlace(tmp_path, monkeypatch)


class TestFolderConnector(ConnectorContract):
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderPlace:
        return FolderPlace(tmp_path, monkeypatch)


def test_paths_in_folders_are_listed_and_hidden_ones_are_not(place: FolderPlace) -> None:
    place.save({"a/b/c.md": b"c", "d.md": b"d", ".git/config": b"x", ".hidden.md": b"x", "a/.x/y.md": b"x"})
    assert set(place.list()) == {"a/b/c.md", "d.md"}
    assert place.list()["a/b/c.md"].place == str(place.folder / "a/b/c.md")


def test_only_what_is_asked_for_is_listed(place: FolderPlace) -> None:
    place.save(dict.fromkeys(("a.md", "b.txt", "docs/c.md", "docs/drafts/d.md", "docs/e/f.md"), b"x"))
    place.options = (("include", ["docs/**"]), ("exclude", ["**/drafts/*"]))
    assert set(place.list()) == {"docs/c.md", "docs/e/f.md"}
    place.options = (("include", ["*.md"]),)
    assert set(place.list()) == {"a.md", "docs/c.md", "docs/drafts/d.md", "docs/e/f.md"}


def test_a_renamed_file_keeps_its_fingerprint_and_so_does_all_in_a_renamed_folder(place: FolderPlace) -> None:
    place.save({"old/a.md": b"a", "old/b.md": b"b", "c.md": b"c"})
    before = place.list()
    (place.folder / "old").rename(place.folder / "new")
    (place.folder / "c.md").rename(place.folder / "d.md")
    after = place.list(remember(before))
    for old, new in (("old/a.md", "new/a.md"), ("old/b.md", "new/b.md"), ("c.md", "d.md")):
        assert before[old].fingerprint == after[new].fingerprint


def test_another_file_under_an_old_name_shows(place: FolderPlace) -> None:
    place.save({"a.md": b"a", "b.md": b"b"})
    before = place.list()
    (place.folder / "a.md").rename(place.folder / "c.md")
    (place.folder / "b.md").rename(place.folder / "a.md")
    after = place.list(remember(before))
    assert after["a.md"].fingerprint != before["a.md"].fingerprint
    assert after["c.md"].fingerprint == before["a.md"].fingerprint


def test_an_older_copy_and_a_time_that_was_set_back_show(place: FolderPlace) -> None:
    """An edit that keeps size and time is seen, a backup that is put back, and what a clock that jumped back wrote."""
    place.save({"a.md": b"old", "b.md": b"old"})
    seen = (place.folder / "a.md").stat()
    before = place.list()
    place.save({"a.md": b"new"})
    os.utime(place.folder / "a.md", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    place.save({"b.md": b"new"})
    os.utime(place.folder / "b.md", (0, 0))
    after = place.list(remember(before))
    assert all(after[path].fingerprint != before[path].fingerprint for path in before)


def test_a_file_of_tomorrow_is_read_and_stays_unchanged(place: FolderPlace) -> None:
    place.save({"a.md": b"a"})
    os.utime(place.folder / "a.md", (4e9, 4e9))
    before = place.list()
    assert place.open(before["a.md"]) == b"a"
    assert place.list(remember(before)) == before


def test_pipes_broken_links_loops_and_odd_names_are_problems_and_hang_nothing(place: FolderPlace) -> None:
    place.save(
        {
            "good.md": b"# Good",
            "a\nb.md": b"x",
            os.fsdecode(b"\xff.md"): b"x",
            f"{'x' * 200}/" * 6 + "y": b"x",
        }
    )
    os.mkfifo(place.folder / "pipe.md")
    (place.folder / "broken.md").symlink_to("nowhere.md")
    (place.folder / "loop.md").symlink_to("loop.md")
    (place.folder / "loop").symlink_to(".")
    found, problems = place.look()
    assert set(found) == {"good.md"}
    said = {path.rpartition("/")[2]: problem.message for path, problem in problems.items()}
    assert set(said) == {"a\\nb.md", "\\udcff.md", "y", "pipe.md", "broken.md", "loop.md", "loop"}
    assert "not text" in said["a\\nb.md"] and "not text" in said["\\udcff.md"] and "longer" in said["y"]
    assert all("no regular file" in said[name] for name in ("pipe.md", "broken.md", "loop.md"))
    assert "not followed" in said["loop"]


def test_a_link_out_of_its_source_is_not_followed(place: FolderPlace, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("root:x:0:0")
    (tmp_path / "elsewhere").mkdir()
    place.save({"a.md": b"# A"})
    (place.folder / "b.md").symlink_to("a.md")
    (place.folder / "c.txt").symlink_to(tmp_path / "secret.txt")
    (place.folder / "d").symlink_to(tmp_path / "elsewhere")
    found, problems = place.look()
    assert set(found) == {"a.md", "b.md"} and place.open(found["b.md"]) == b"# A"
    assert "link out" in problems["c.txt"].message and "not followed" in problems["d"].message


def test_what_becomes_a_link_out_after_it_was_listed_is_not_read(place: FolderPlace, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("root:x:0:0")
    place.save({"a.md": b"# A", "deep/secret.txt": b"harmless"})
    listed = place.list()
    (place.folder / "a.md").unlink()
    (place.folder / "a.md").symlink_to(tmp_path / "secret.txt")
    (place.folder / "deep").rename(tmp_path / "away")
    (place.folder / "deep").symlink_to(tmp_path)
    for reference in listed.values():
        with pytest.raises(DocumentUnreadableError, match="link out"):
            place.open(reference)


def test_a_source_may_be_a_link_as_a_whole(place: FolderPlace, tmp_path: Path) -> None:
    place.save({"a.md": b"# A"})
    place.folder.rename(tmp_path / "elsewhere")
    place.folder.symlink_to("elsewhere")
    assert place.open(place.list()["a.md"]) == b"# A"


def test_a_folder_that_may_not_be_read_stands_for_all_below_it(
    place: FolderPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.save({"good.md": b"# Good", "deep/closed/a.md": b"a"})
    close_folder(monkeypatch, "closed")
    found, problems = place.look()
    assert set(found) == {"good.md"} and "permissions" in problems["deep/closed"].message


@pytest.mark.parametrize("number", [5, 107, 116])  # EIO, ENOTCONN, ESTALE
def test_a_failing_disk_or_mount_is_no_deletion(
    place: FolderPlace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    place.save({"good.md": b"# Good", "mnt/a.md": b"a"})
    fail_to_list(monkeypatch, "mnt", number)
    with pytest.raises(SourceUnavailableError, match="mnt"):
        place.look()


def test_a_missing_folder_is_no_empty_one(place: FolderPlace) -> None:
    assert place.list() == {}
    place.save({"a.md": b"# A"})
    reference = place.list()["a.md"]
    place.delete("a.md")
    place.folder.rmdir()
    with pytest.raises(SourceUnavailableError, match="no folder"):
        place.look()
    with pytest.raises(SourceUnavailableError, match="no folder"):
        place.open(reference)
    place.folder.write_bytes(b"a file")
    with pytest.raises(SourceUnavailableError, match="no folder"):
        place.look()


def test_a_file_that_grew_too_large_after_it_was_listed_is_not_read(place: FolderPlace) -> None:
    place.save({"a.md": b"# A"})
    reference = place.list()["a.md"]
    with (place.folder / "a.md").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DocumentUnreadableError, match="split it"):
        place.open(reference)


def test_what_is_written_while_it_is_read_is_not_read_or_shows_as_changed_afterwards(
    place: FolderPlace,
) -> None:
    path = place.folder / "a.md"
    path.write_bytes(b"a" * 400_000)
    reference, wrote, stop = place.list()["a.md"], threading.Event(), threading.Event()

    def write() -> None:
        with path.open("r+b", buffering=0) as file:
            while not stop.is_set():
                for letter in b"abcdefgh":
                    for start in range(0, 400_000, 4_000):
                        os.pwrite(file.fileno(), bytes([letter]) * 4_000, start)
                wrote.set()

    writer = threading.Thread(target=write)
    writer.start()
    read: dict[str, bytes] = {}
    refused = 0
    try:
        for _ in range(10):
            wrote.clear()
            assert wrote.wait(10)
            try:
                content = place.open(reference)
                read[place.opened_fingerprint] = content
            except DocumentUnreadableError:
                refused += 1
    finally:
        stop.set()
        writer.join(10)
    assert refused
    at_rest = place.list()["a.md"].fingerprint
    assert read.get(at_rest, path.read_bytes()) == path.read_bytes()
    assert place.open(reference) == path.read_bytes()
