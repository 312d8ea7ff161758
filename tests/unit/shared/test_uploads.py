"""Uploads: kept, versioned, never changed, and inside their folder."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.settings import Settings
from shared.uploads import (
    MAX_BYTES,
    NoSuchUploadError,
    UploadError,
    Uploads,
    UploadsUnavailableError,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"file:{tmp_path}/uploads" if request.param == "file" else f"memory://{tmp_path.name}/uploads"


def test_versions_stay_and_the_newest_is_current(url: str) -> None:
    uploads = Uploads(url)
    assert uploads.is_empty() and list(uploads.list_current()) == []
    first = uploads.put("handbook.pdf", b"one", "ada")
    second = uploads.put("handbook.pdf", b"two", "bob")
    uploads.put("a.md", b"a", "ada")
    again = Uploads(url)
    assert [upload.name for upload in again.list_current()] == ["a.md", "handbook.pdf"]
    assert again.find_current("handbook.pdf") == second
    assert again.list_versions("handbook.pdf") == [first, second]
    assert [again.read(upload) for upload in (first, second)] == [b"one", b"two"]
    record = again.read_record(second)
    assert (record.by, record.size) == ("bob", 3)


def test_a_deletion_is_a_version_and_what_comes_after_it_is_current(url: str) -> None:
    uploads = Uploads(url)
    first = uploads.put("a.md", b"one", "ada")
    gone = uploads.delete("a.md", "bob")
    assert uploads.find_current("a.md") is None and list(uploads.list_current()) == []
    assert gone.deleted and uploads.read_record(gone).by == "bob" and uploads.read(first) == b"one"
    assert not uploads.is_empty()
    with pytest.raises(NoSuchUploadError):
        uploads.delete("a.md", "bob")
    back = uploads.put("a.md", b"one", "ada")
    assert uploads.find_current("a.md") == back and uploads.list_versions("a.md") == [first, gone, back]


def test_the_same_bytes_again_make_no_version(url: str) -> None:
    uploads = Uploads(url)
    assert uploads.put("a.md", b"one", "ada") == uploads.put("a.md", b"one", "bob")
    assert len(uploads.list_versions("a.md")) == 1


def test_a_clock_that_jumps_back_makes_no_version_old(url: str) -> None:
    clock = Clock()
    uploads = Uploads(url, clock=clock)
    uploads.put("a.md", b"one", "ada")
    clock.now = NOON - timedelta(days=400)
    second = uploads.put("a.md", b"two", "ada")
    assert uploads.find_current("a.md") == second and second.at > NOON
    assert uploads.delete("a.md", "ada").at > second.at


def test_what_was_half_uploaded_does_not_count(tmp_path: Path) -> None:
    """A crash between content and record leaves the version before."""
    uploads = Uploads(f"file:{tmp_path}")
    first = uploads.put("a.md", b"one", "ada")
    second = uploads.put("a.md", b"two", "ada")
    (tmp_path / "a.md" / f"{second.stem}.json").unlink()
    assert uploads.find_current("a.md") == first
    third = uploads.put("a.md", b"two", "ada")
    assert uploads.find_current("a.md") == third and uploads.read(third) == b"two"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", ".hidden", "a\nb", " a", "a ", "x" * 201, "ü" * 130,
     "a\0b", "\udcff", "a\u202eb"],
)  # fmt: skip
def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    uploads = Uploads(f"file:{tmp_path}/uploads")
    for call in (
        lambda: uploads.put(name, b"x", "ada"),
        lambda: uploads.delete(name, "ada"),
        lambda: uploads.list_versions(name),
        lambda: uploads.find_current(name),
    ):
        with pytest.raises(UploadError, match="can't be a document's name"):
            call()
    assert list(tmp_path.rglob("*")) == []


def test_what_is_empty_or_too_large_is_not_kept(url: str) -> None:
    uploads = Uploads(url)
    with pytest.raises(UploadError, match="empty"):
        uploads.put("a.md", b"", "ada")
    with pytest.raises(UploadError, match="split it"):
        uploads.put("a.md", b"x" * (MAX_BYTES + 1), "ada")
    assert uploads.is_empty()


def test_what_was_damaged_is_not_given_out(tmp_path: Path) -> None:
    uploads = Uploads(f"file:{tmp_path}")
    upload = uploads.put("a.md", b"one", "ada")
    content = tmp_path / "a.md" / f"{upload.stem}.content"
    content.write_bytes(b"eno")
    with pytest.raises(UploadError, match="upload it again"):
        uploads.read(upload)
    content.unlink()
    with pytest.raises(NoSuchUploadError):
        uploads.read(upload)


def test_a_place_that_cannot_be_reached_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "uploads").symlink_to("uploads")
    uploads = Uploads(f"file:{tmp_path}/uploads")
    with pytest.raises(UploadsUnavailableError):
        uploads.is_empty()
    with pytest.raises(UploadsUnavailableError):
        uploads.put("a.md", b"one", "ada")


def test_uploads_lie_in_the_state_folder_unless_a_setting_says_where(tmp_path: Path) -> None:
    assert Settings(state_dir=tmp_path).uploads_root == f"file:{tmp_path}/uploads"
    assert Settings(state_dir=tmp_path, uploads_url="s3://b/u").uploads_root == "s3://b/u"
