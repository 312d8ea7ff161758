"""What fsspec reaches as a source: the contract on storages that tell digests, times or nothing, and odd content.

A real S3 server is in tests/integration/test_s3_source.py.
"""

import io
import tracemalloc
from collections.abc import Iterator, Mapping
from hashlib import md5
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec import AbstractFileSystem

from deployments.ingest.connectors.filesystem import Options
from deployments.ingest.connectors.port import (
    Connector,
    DocumentUnreadableError,
    DocumentWithheldError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.connectors.registry import build_connector
from deployments.ingest.model import Problem, Source
from tests.connector_contract import TEXTS, ConnectorContract, Place


class Shelf(AbstractFileSystem):
    """A storage in memory that tells of an object what a test lets it."""

    protocol = "shelf"
    cachable = False
    objects: ClassVar[dict[str, tuple[bytes, dict[str, Any]]]] = {}
    broken: ClassVar[set[str]] = set()
    reads: ClassVar[list[str]] = []

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path).rstrip("/")
        if path in self.broken:
            raise OSError(5, "Input/output error")
        folder = f"{path}/" if path else ""
        names = sorted(name for name in self.objects if name.startswith(folder))
        if not names:
            raise FileNotFoundError(path)
        folders = {name[len(folder) :].split("/")[0] for name in names if "/" in name[len(folder) :]}
        return [
            *({"name": folder + name, "type": "directory", "size": 0} for name in sorted(folders)),
            *(self._show(self.info(name)) for name in names if "/" not in name[len(folder) :]),
        ]

    @staticmethod
    def _show(info: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in info.items() if key != "etag"} if "hidden" in info else info

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path not in self.objects:
            raise FileNotFoundError(path)
        content, told = self.objects[path]
        return {"name": path, "type": "file", "size": len(content), **told}

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        self.info(path)
        self.reads.append(path)
        return io.BytesIO(self.objects[self._strip_protocol(path)][0])


fsspec.register_implementation("shelf", Shelf, clobber=True)


class ShelfPlace(Place):
    """`tells`: what the storage tells of an object, in its listings too or only of a single one."""

    def __init__(self, folder: Path, tells: str = "digest") -> None:
        self.tells, self.time = tells, 0
        self.environment = Environment(folder, folder, "", lambda name: "")
        self.options: dict[str, object] = {"url": "shelf://docs"}
        Shelf.objects["docs/.keep"] = (b"", {})

    def connect(self) -> Connector:
        return build_connector(Source("docs", "filesystem", tuple(self.options.items())), self.environment)

    def save(self, documents: Mapping[str, bytes]) -> None:
        for path, content in documents.items():
            self.time += 1
            told = {
                "digest": {"ETag": f'"{md5(content).hexdigest()}"'},
                "digest when asked": {"etag": md5(content).hexdigest(), "hidden": True},
                "time": {"mtime": self.time},
                "nothing": {},
            }[self.tells]
            Shelf.objects[f"docs/{path}"] = (content, told)

    def delete(self, path: str) -> None:
        del Shelf.objects[f"docs/{path}"]

    def break_listing(self) -> None:
        self.save({"aaa/four.md": b"four"})
        Shelf.broken.add("docs/aaa")


@pytest.fixture(autouse=True)
def empty_shelf() -> Iterator[None]:
    yield
    Shelf.objects.clear()
    Shelf.broken.clear()
    Shelf.reads.clear()


@pytest.fixture
def place(tmp_path: Path) -> ShelfPlace:
    return ShelfPlace(tmp_path)


class TestFilesystemConnector(ConnectorContract):
    @pytest.fixture(params=["digest", "digest when asked", "time", "nothing"])
    def place(self, request: pytest.FixtureRequest, tmp_path: Path) -> ShelfPlace:
        return ShelfPlace(tmp_path, request.param)

    def test_what_is_too_large_is_refused_and_stops_nothing_else(self, place: ShelfPlace) -> None:
        if place.tells == "nothing":
            place.save(TEXTS)
            place.save_too_large("big.txt")
            assert "split it" in place.look()[1]["big.txt"].message and Shelf.reads.count("docs/big.txt") == 0
        else:
            super().test_what_is_too_large_is_refused_and_stops_nothing_else(place)


class MemoryPlace(ShelfPlace):
    """fsspec's own filesystem in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.root = f"memory://{folder.name}"
        self.options = {"url": self.root}
        self.fs: AbstractFileSystem = fsspec.filesystem("memory")
        self.fs.makedirs(f"/{folder.name}", exist_ok=True)
        self.connected = 0

    def save(self, documents: Mapping[str, bytes]) -> None:
        for path, content in documents.items():
            self.fs.pipe_file(f"{self.root}/{path}", content)

    def delete(self, path: str) -> None:
        self.fs.rm_file(f"{self.root}/{path}")

    def break_listing(self) -> None:
        self.fs.rm(self.root, recursive=True)


class TestMemoryFilesystem(ConnectorContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> MemoryPlace:
        return MemoryPlace(tmp_path)


def test_folders_are_walked_and_hidden_ones_are_not(place: ShelfPlace) -> None:
    place.save({"a/b/c.md": b"c", "d.md": b"d", ".git/config": b"x", "a/.hidden.md": b"x"})
    listed = place.list()
    assert set(listed) == {"a/b/c.md", "d.md"} and listed["a/b/c.md"].place == "shelf://docs/a/b/c.md"
    place.options["include"] = ["a/**"]
    assert set(place.list()) == {"a/b/c.md"}


def test_odd_keys_are_problems(place: ShelfPlace) -> None:
    place.save({"good.md": b"x", "a\nb.md": b"x", "a/../b.md": b"x", "x" * 1100: b"x"})
    Shelf.objects["docs/link.md"] = (b"x", {"type": "link", "ETag": "x"})
    found, problems = place.look()
    assert set(found) == {"good.md"}
    messages = sorted(problem.message[:20] for problem in problems.values())
    assert len(messages) == 4 and "not text" in problems["a\\nb.md"].message
    assert ".. in it" in problems["a/../b.md"].message and "no regular file" in problems["link.md"].message


def test_a_missing_folder_is_no_empty_one(place: ShelfPlace) -> None:
    place.options["url"] = "shelf://nowhere"
    with pytest.raises(SourceUnavailableError, match="nowhere"):
        place.look()


def test_what_is_replaced_while_it_is_read_is_not_mixed(
    place: ShelfPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.save({"a.md": b"one"})
    reference = place.list()["a.md"]
    opening, times = Shelf._open, 0

    def replace_after_opening(self: Shelf, path: str, mode: str = "rb", **options: Any) -> Any:
        nonlocal times
        file, times = opening(self, path, mode, **options), times + 1
        if times < 3:
            place.save({"a.md": b"version %d" % times})
        return file

    monkeypatch.setattr(Shelf, "_open", replace_after_opening)
    assert place.open(reference) == b"version 2"
    assert place.opened_fingerprint == place.list()["a.md"].fingerprint
    times = -100
    with pytest.raises(DocumentWithheldError, match="being written"):
        place.open(reference)


def test_what_may_not_be_read_may_be_later_without_a_change(
    place: ShelfPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.save({"a.md": b"one"})
    reference = place.list()["a.md"]

    def refuse(self: Shelf, path: str, **_: Any) -> Any:
        raise PermissionError(13, "Access Denied")

    monkeypatch.setattr(Shelf, "_open", refuse)
    with pytest.raises(DocumentWithheldError, match="permissions"):
        place.open(reference)


def test_what_grew_too_large_is_not_read(place: ShelfPlace) -> None:
    place.save({"a.md": b"one"})
    reference = place.list()["a.md"]
    place.save_too_large("a.md")
    with pytest.raises(DocumentUnreadableError, match="split it"):
        place.open(reference)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "docs"}, "s3://bucket/folder"),
        ({"url": "file:///etc"}, "the connector folder"),
        ({"url": "zip://a.zip::file:///etc"}, "the connector folder"),
        ({"url": "https://example.org/x"}, "the connector website"),
        ({"url": "carrier://pigeon"}, "knows no carrier"),
        ({"url": "ftp://ada:pw@example.org/x"}, "leave user and password out"),
        ({"url": "s3://b", "options": {"secret": "x"}}, "looks like a secret"),
        ({"url": "s3://b", "options": {"aws_session_token": "x"}}, "looks like a secret"),
        ({"url": "s3://b", "credentials": "../x"}, "credentials"),
    ],
)
def test_what_cannot_be_declared(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Options(**options)


@pytest.mark.parametrize(
    ("secret", "said"), [("", "no secret s3_docs"), ("only-a-key", "neither"), ("{broken", "none")]
)
def test_a_secret_that_is_missing_or_of_no_use_is_named_and_not_shown(
    place: ShelfPlace, secret: str, said: str
) -> None:
    place.options["credentials"] = "s3_docs"
    place.environment = Environment(Path(), Path(), "", lambda name: secret)
    with pytest.raises(SourceUnavailableError, match=said) as caught:
        place.connect()
    assert not secret or secret not in str(caught.value)


class Pages(AbstractFileSystem):
    """The part of an S3 filesystem that lists: so many keys, or the same page for ever."""

    protocol = "pages"
    cachable = False

    def __init__(self, count: int, endless: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.count, self.endless = count, endless

    def call_s3(self, method: str, Bucket: str, Prefix: str, ContinuationToken: str = "0") -> dict[str, Any]:
        assert method == "list_objects_v2"
        start = 0 if self.endless else int(ContinuationToken)
        end = min(start + 1000, self.count)
        return {
            "Contents": [
                {
                    "Key": f"{Prefix}{number:07}.md",
                    "Size": 9,
                    "ETag": f'"{number:032x}"',
                    "Owner": {"ID": "x" * 50},
                }
                for number in range(start, end)
            ],
            "IsTruncated": self.endless or end < self.count,
            "NextContinuationToken": str(end),
        }


fsspec.register_implementation("pages", Pages, clobber=True)


def list_pages(**options: Any) -> Iterator[Any]:
    source = Source("docs", "filesystem", (("options", options), ("url", "pages://bucket/docs")))
    return build_connector(source, Environment(Path(), Path(), "", lambda name: "")).list_references({})


def measure_listing(keys: int) -> tuple[int, int]:
    """How many documents were listed, and the most memory that was taken, in bytes."""
    tracemalloc.start()
    try:
        count = sum(not isinstance(one, Problem) for one in list_pages(count=keys))
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_listing_of_100_000_keys_takes_no_more_memory_than_one_of_3_000() -> None:
    measure_listing(1000)  # what is loaded once
    few, little = measure_listing(3000)
    many, most = measure_listing(100_000)
    assert (few, many) == (3000, 100_000)
    assert most < 1.5 * little


def test_a_listing_without_an_end_is_ended() -> None:
    with pytest.raises(SourceUnavailableError, match="circles"):
        for _ in list_pages(count=1000, endless=True):
            pass
