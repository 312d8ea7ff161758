"""The ingest deployment without Airflow: real files, and fakes of the store, the provider and the ledger."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import composition, ledger, sync, tasks
from deployments.ingest.clearing import Request
from deployments.ingest.ledger import Turn
from deployments.ingest.sources import list_sources
from shared.contracts import chunk_id
from shared.ledger.models import (
    Base,
    utc_now,
)
from shared.ledger.sessions import create_sessions
from shared.llm.fake import FakeLlm
from shared.settings import Settings
from shared.vectors.fake import FakeVectorStore

GUIDE, NOTE = "knowledge://guides/assets.md", "knowledge://notes/one.txt"


class Deployment:
    """The ingest deployment without Airflow: `run` does what a Dag run does."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(state_dir=folder / "state", content_dir=folder / "content")
        self.knowledge = folder / "content/knowledge"
        self.store = FakeVectorStore(created=False)
        self.sessions = create_sessions(f"sqlite:///{folder}/ledger.db")
        # The disk need not keep it: a test makes hundreds of them.
        event.listen(
            self.sessions.kw["bind"], "connect", lambda link, _: link.execute("PRAGMA synchronous=OFF")
        )
        Base.metadata.create_all(self.sessions.kw["bind"])
        self.runs = 0

        @contextmanager
        def open_store(settings: Settings) -> Iterator[FakeVectorStore]:
            yield self.store

        monkeypatch.setattr(composition, "open_store", open_store)
        monkeypatch.setattr(composition, "create_llm", lambda settings: FakeLlm())
        monkeypatch.setattr(composition, "create_ledger", lambda settings: self.sessions)

    def save(self, path: str, text: str) -> None:
        (self.knowledge / path).parent.mkdir(parents=True, exist_ok=True)
        (self.knowledge / path).write_text(text, encoding="utf-8")

    def start(self, **options: Any) -> tuple[str, dict[str, int]]:
        self.runs += 1
        run_id = f"manual__2026-11-23T04:00:0{self.runs}+00:00"
        if not tasks.collection_exists(self.settings):
            tasks.create_collection(self.settings)
        return run_id, tasks.plan(self.settings, run_id, **options)

    def run_arm(self, run_id: str, source: str, *, until: str = "ingest") -> None:
        for batch in tasks.extract(self.settings, run_id, source):
            for step in (tasks.split, tasks.prepare, tasks.ingest):
                step(self.settings, run_id, batch)
                if step.__name__ == until:
                    break

    def run(self, **options: Any) -> sync.Outcome:
        run_id, _ = self.start(**options)
        for source in list_sources(self.knowledge):
            self.run_arm(run_id, source)
        return tasks.commit(self.settings, run_id)

    def clear(self, run_id: str, request: Request | None = None) -> int:
        return tasks.clear(self.settings, run_id, request or Request(utc_now() + timedelta(hours=1)))

    def texts(self) -> dict[str, str]:
        return {chunk.uri: chunk.text for chunk in self.store.iterate()}

    def find_lost(self) -> set[str]:
        """Documents that the ledger has and the store lacks."""
        with self.sessions() as session:
            return sync.find_damaged(self.store, ledger.read_current(session))

    def close(self) -> None:
        self.sessions.kw["bind"].dispose()


def close_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Folders of this name can't be read any more; root could read them whatever their mode."""
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    made = Deployment(tmp_path, monkeypatch)
    made.save("guides/assets.md", "# Assets\n\nold fact")
    made.save("notes/one.txt", "a note")
    yield made
    made.close()


URI = "knowledge://guides/assets.md"


@pytest.fixture
def sessions(tmp_path: Any) -> Iterator[sessionmaker[Session]]:
    made = create_sessions(f"sqlite:///{tmp_path}/ledger.db")
    Base.metadata.create_all(made.kw["bind"])
    yield made
    made.kw["bind"].dispose()


def make_rows(content_hash: str, chunks: int, uri: str = URI) -> list[dict[str, Any]]:
    document = {
        "uri": uri,
        "source": "guides",
        "title": "Assets",
        "content_hash": content_hash,
        "size": 9,
        "chunks": chunks,
    }
    items = [
        {
            "chunk": {
                "id": chunk_id(uri, content_hash, n), "uri": uri, "content_hash": content_hash, "position": n,
                "source": "guides", "title": "Assets", "heading": "", "text": f"{content_hash} {n}",
            },
            "vector": [1.0, 0.0],
        }
        for n in range(chunks)
    ]  # fmt: skip
    return [{"document": document, "chunks": items}]


def run_sync(
    store: FakeVectorStore, sessions: sessionmaker[Session], content_hash: str, chunks: int, run: str
) -> sync.Outcome:
    turn = take_turn(sessions, run)
    written = sync.write_batch(make_rows(content_hash, chunks), store, sessions, turn)
    return sync.commit_run({URI: content_hash}, [], written, store, sessions, turn)


def take_turn(sessions: sessionmaker[Session], run: str) -> Turn:
    with sessions.begin() as session:
        return ledger.take_turn(session, run)


def read_rows(sessions: sessionmaker[Session], model: type[Any]) -> list[dict[str, Any]]:
    """All rows of a table but for their times, which are checked to be there."""
    with sessions() as session:
        rows = [
            {
                column.name: getattr(row, column.name)
                for column in model.__table__.columns
                if column.server_default is None and column.name not in ("dated", "notes", "moved_from")
            }
            for row in session.scalars(select(model).order_by(*model.__table__.primary_key.columns))
        ]
    return [
        {key: value for key, value in row.items() if not key.endswith("_at") and key != "at"} for row in rows
    ]
