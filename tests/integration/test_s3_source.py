"""A real S3 server as a source, and as the place where uploads are kept."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.ingest.connectors.port import (
    Connector,
    DocumentUnreadableError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.connectors.registry import build_connector
from deployments.ingest.model import Source
from shared.uploads import Uploads, UploadsUnavailableError
from tests.connector_contract import TEXTS, ConnectorContract, Place
from tests.s3_server import KEY, SECRET, S3Server, run_s3_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with run_s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


class S3Place(Place):
    def __init__(self, server: S3Server, folder: Path) -> None:
        self.server, self.fs, self.bucket = server, server.connect(), f"bucket-{uuid4().hex[:8]}"
        self.fs.mkdir(self.bucket)
        self.environment = Environment(folder, folder, "", {"s3_docs": server.credentials}.get)
        self.options: dict[str, object] = {
            "url": f"s3://{self.bucket}/team/docs", "options": server.options, "credentials": "s3_docs",
        }  # fmt: skip
        # What must not be listed: beside the folder, with its name in front.
        self.fs.pipe_file(f"{self.bucket}/team/docs-old/other.md", b"other")

    def connect(self) -> Connector:
        return build_connector(Source("docs", "filesystem", tuple(self.options.items())), self.environment)

    def save(self, documents: Mapping[str, bytes]) -> None:
        for path, content in documents.items():
            self.fs.pipe_file(f"{self.bucket}/team/docs/{path}", content)

    def delete(self, path: str) -> None:
        self.fs.rm_file(f"{self.bucket}/team/docs/{path}")

    def break_listing(self) -> None:
        self.fs.rm(self.bucket, recursive=True)


@pytest.fixture
def place(server: S3Server, tmp_path: Path) -> S3Place:
    return S3Place(server, tmp_path)


class TestS3Source(ConnectorContract):
    @pytest.fixture
    def place(self, server: S3Server, tmp_path: Path) -> S3Place:
        return S3Place(server, tmp_path)


def test_keys_are_paths_and_a_page_is_not_the_end(place: S3Place) -> None:
    """2,500 keys are three pages of the real server; it lists what lies in its folder."""
    folder = place.server.folder / place.bucket / "team/docs/many"
    folder.mkdir(parents=True)
    for number in range(2500):
        (folder / f"{number:04}.md").write_bytes(b"%d" % number)
    place.fs.touch(f"{place.bucket}/team/docs/many/")  # as consoles show an empty folder
    place.save({".hidden/a.md": b"x"})
    listed = place.list()
    assert set(listed) == {f"many/{number:04}.md" for number in range(2500)}
    assert place.open(listed["many/2499.md"]) == b"2499"
    assert listed["many/0000.md"].place == f"s3://{place.bucket}/team/docs/many/0000.md"


def test_a_copied_object_is_the_same_content(place: S3Place) -> None:
    place.save(TEXTS)
    before = place.list()["one.md"].fingerprint
    place.fs.mv(f"{place.bucket}/team/docs/one.md", f"{place.bucket}/team/docs/moved.md")
    assert place.list()["moved.md"].fingerprint == before


def test_a_large_object_is_refused_before_it_is_read(place: S3Place) -> None:
    place.save({"a.md": b"a"})
    reference = place.list()["a.md"]
    with (place.server.folder / place.bucket / "team/docs/a.md").open("r+b") as file:
        file.truncate(200_000_000)
    assert "split it" in place.look()[1]["a.md"].message
    with pytest.raises(DocumentUnreadableError, match="split it"):
        place.open(reference)


def test_wrong_credentials_and_a_server_that_is_away_are_no_deletion(place: S3Place) -> None:
    place.save(TEXTS)
    good = place.environment
    place.environment = Environment(good.content_dir, good.state_dir, "", lambda name: f"{KEY}:wrong")
    with pytest.raises(SourceUnavailableError) as caught:
        place.look()
    assert "wrong" not in str(caught.value) and SECRET not in str(caught.value)
    place.environment = good
    place.options["options"] = {"endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(SourceUnavailableError):
        place.look()


def test_uploads_may_be_kept_there(server: S3Server, place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    uploads = Uploads(f"s3://{place.bucket}/uploads")
    assert uploads.is_empty()
    first = uploads.put("a.md", b"one", "ada")
    second = uploads.put("a.md", b"two", "bob")
    assert list(uploads.list_current()) == [second] and uploads.list_versions("a.md") == [first, second]
    assert uploads.read(first) == b"one" and uploads.read_record(second).by == "bob"
    uploads.delete("a.md", "ada")
    assert list(uploads.list_current()) == [] and not uploads.is_empty()
    with pytest.raises(UploadsUnavailableError):
        Uploads("s3://no-such-bucket-here/uploads").put("a.md", b"one", "ada")
