"""Ingest on a real ledger: one Postgres a test process, a fresh database a test."""

import os
from collections.abc import Iterator

import fsspec
import pytest
from sqlalchemy.orm import Session, sessionmaker

from tests.ingest import Deployment
from tests.ledger import Ledgers, serve_ledgers


@pytest.fixture(scope="session")
def ledgers() -> Iterator[Ledgers]:
    with serve_ledgers() as made:
        yield made


@pytest.fixture
def sessions(ledgers: Ledgers) -> Iterator[sessionmaker[Session]]:
    with ledgers.make() as made:
        yield made


@pytest.fixture
def deployment(sessions: sessionmaker[Session]) -> Deployment:
    fsspec.filesystem("memory").store.clear()
    return Deployment(sessions)


def close_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Folders of this name can't be read any more; root could read them whatever their mode."""
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
