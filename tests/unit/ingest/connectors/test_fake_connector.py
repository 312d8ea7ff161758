"""The fake passes what the real ones pass."""

from collections.abc import Mapping

import pytest

from deployments.ingest.connectors.fake import FakeConnector
from tests.connector_contract import ConnectorContract, Place


class FakePlace(Place):
    def __init__(self) -> None:
        self.connector = FakeConnector(self.name)

    def connect(self) -> FakeConnector:
        return self.connector

    def save(self, documents: Mapping[str, bytes]) -> None:
        self.connector.documents.update(documents)

    def delete(self, path: str) -> None:
        del self.connector.documents[path]

    def break_listing(self) -> None:
        self.connector.broken_after = 1


class TestFakeConnector(ConnectorContract):
    @pytest.fixture
    def place(self) -> FakePlace:
        return FakePlace()
