"""Uploads as a source."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from deployments.ingest.connectors.port import DocumentUnreadableError, Environment
from deployments.ingest.connectors.registry import build_connector
from deployments.ingest.model import Source
from shared.uploads import MAX_BYTES as MAX_UPLOAD
from shared.uploads import Uploads
from tests.connector_contract import MAX_BYTES, ConnectorContract, Place


class UploadsPlace(Place):
    def __init__(self, folder: Path) -> None:
        self.folder = folder / "uploads"
        self.uploads = Uploads(f"file:{self.folder}")
        self.environment = Environment(folder, folder, f"file:{self.folder}", lambda name: "")

    def connect(self):
        return build_connector(Source(self.name, "uploads"), self.environment)

    def save(self, documents: Mapping[str, bytes]) -> None:
        for name, content in documents.items():
            self.uploads.put(name, content, "ada")

    def delete(self, path: str) -> None:
        self.uploads.delete(path, "ada")

    def break_listing(self) -> None:
        # A folder whose turn comes late can't be listed.
        (self.folder / "zzz").symlink_to("zzz")


class TestUploadsConnector(ConnectorContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> UploadsPlace:
        return UploadsPlace(tmp_path)

    def test_what_is_too_large_is_refused_and_stops_nothing_else(self, place: Place) -> None:
        assert MAX_UPLOAD <= MAX_BYTES  # refused when it is uploaded: tests of shared.uploads

    def test_what_was_damaged_where_it_is_kept_is_not_read(self, place: UploadsPlace) -> None:
        place.save({"one.md": b"# One"})
        reference = place.list()["one.md"]
        next(place.folder.rglob("*.content")).write_bytes(b"# Eno")
        with pytest.raises(DocumentUnreadableError, match="upload it again"):
            place.open(reference)
