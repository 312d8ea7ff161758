"""A sync killed after any step leaves old or new, and the next run finishes the job."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger, sync
from deployments.ingest.clearing import Request
from deployments.ingest.ledger import Turn
from deployments.ingest.publication import publish_newest
from shared.contracts import IDEMPOTENCY_KEY, KNOWLEDGE_BASE_ASSET, chunk_id
from shared.ledger.models import Base, DocumentVersion, PendingWrite, utc_now
from shared.ledger.sessions import create_sessions
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk, VectorStoreError

URI = "knowledge://guides/assets.md"


class Killed(BaseException):
    """The process dies here."""


class MortalStore(FakeVectorStore):
    """Dies at the n-th change: halfway through it, as a killed process would."""

    lives: int = 10**9

    def write(self, chunks: Any) -> None:
        self._maybe_die(lambda: super(MortalStore, self).write(chunks[: len(chunks) // 2]))
        super().write(chunks)

    def delete(self, ids: Any) -> None:
        self._maybe_die(lambda: super(MortalStore, self).delete(ids[: len(ids) // 2]))
        super().delete(ids)

    def _maybe_die(self, half: Any) -> None:
        self.lives -= 1
        if self.lives == 0:
            half()
            raise Killed


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


def reconcile(store: FakeVectorStore, sessions: sessionmaker[Session]) -> int:
    return sync.reconcile(store, sessions, take_turn(sessions, "reconcile"))


def texts(store: FakeVectorStore) -> set[str]:
    return {chunk.text for chunk in store.iterate()}


def test_an_edit_replaces_exactly_the_old_chunks_and_keeps_the_old_version_on_record(
    sessions: sessionmaker[Session],
) -> None:
    store = FakeVectorStore()
    run_sync(store, sessions, "old", 3, "run1")
    outcome = run_sync(store, sessions, "new", 2, "run2")
    assert texts(store) == {"new 0", "new 1"}
    assert (outcome.written, outcome.documents, outcome.chunks, outcome.missing) == (1, 1, 2, ())
    with sessions() as session:
        rows = session.scalars(select(DocumentVersion).order_by(DocumentVersion.id)).all()
        assert [(r.content_hash, r.ingest_run, r.superseded_by_run) for r in rows] == [
            ("old", "run1", "run2"),
            ("new", "run2", None),
        ]
        assert session.scalars(select(PendingWrite)).all() == []


@pytest.mark.parametrize("lives", range(1, 5))
def test_a_kill_at_any_step_is_healed_by_the_next_run(sessions: sessionmaker[Session], lives: int) -> None:
    store = MortalStore()
    run_sync(store, sessions, "old", 4, "run1")
    store.lives = lives
    try:
        run_sync(store, sessions, "new", 6, "run2")
    except Killed:
        with sessions() as session:
            assert set(ledger.read_current(session)) == {URI}
    store.lives = 10**9
    run_sync(store, sessions, "newer", 2, "run3")  # the file changed again meanwhile
    assert texts(store) == {"newer 0", "newer 1"}
    assert reconcile(store, sessions) == 0


def test_a_document_that_was_not_written_keeps_its_earlier_version(sessions: sessionmaker[Session]) -> None:
    store = FakeVectorStore()
    run_sync(store, sessions, "old", 2, "run1")
    outcome = sync.commit_run({URI: "new"}, [], [], store, sessions, take_turn(sessions, "run2"))
    assert outcome.missing == (URI,)
    assert texts(store) == {"old 0", "old 1"}


def test_a_removed_document_leaves_nothing_behind(sessions: sessionmaker[Session]) -> None:
    store = FakeVectorStore()
    run_sync(store, sessions, "old", 2, "run1")
    sync.commit_run({}, [URI], [], store, sessions, take_turn(sessions, "run2"))
    assert texts(store) == set()
    with sessions() as session:
        assert ledger.read_current(session) == {}


def test_an_edit_taken_back_is_the_first_version_again(sessions: sessionmaker[Session]) -> None:
    store = FakeVectorStore()
    for run, content_hash in enumerate(["a", "b", "a"]):
        run_sync(store, sessions, content_hash, 2, f"run{run}")
    assert texts(store) == {"a 0", "a 1"}


def test_a_chunk_that_the_store_lost_is_an_error_and_a_stray_is_swept(
    sessions: sessionmaker[Session],
) -> None:
    store = FakeVectorStore()
    run_sync(store, sessions, "a", 2, "run1")
    stray = Chunk(chunk_id("x", "y", 0), "x", "y", 0, "guides", "", "", "stray")
    store.write([EmbeddedChunk(stray, [1.0])])
    assert reconcile(store, sessions) == 1
    store.delete([chunk_id(URI, "a", 0)])
    with pytest.raises(sync.SyncError, match="knowledge sync"):
        reconcile(store, sessions)
    with sessions() as session:
        assert sync.find_damaged(store, ledger.read_current(session)) == {URI}
    run_sync(store, sessions, "a", 2, "run2")
    assert reconcile(store, sessions) == 0


def test_a_store_that_goes_away_leaves_the_journal(sessions: sessionmaker[Session]) -> None:
    store = FakeVectorStore()
    store.fail_next = True
    with pytest.raises(VectorStoreError):
        sync.write_batch(make_rows("a", 2), store, sessions, take_turn(sessions, "run1"))
    with sessions() as session:
        assert ledger.read_journal(session) == [(URI, "a", 2)]


class Training:
    """Takes asset events, or refuses them while `down`."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.down = False

    def post_asset_event(self, asset_uri: str, extra: Mapping[str, Any]) -> None:
        if self.down:
            raise ConnectionError
        self.events.append((asset_uri, extra))


def test_each_version_is_published_once_and_again_only_when_nobody_took_it(
    sessions: sessionmaker[Session],
) -> None:
    store, training = FakeVectorStore(), Training()
    assert publish_newest(sessions, training, {}) is None
    run_sync(store, sessions, "a", 2, "run1")
    training.down = True
    with pytest.raises(ConnectionError):
        publish_newest(sessions, training, {})
    training.down = False
    assert publish_newest(sessions, training, {"parentRunId": "r"}) is not None
    assert publish_newest(sessions, training, {}) is None
    run_sync(store, sessions, "a", 2, "run2")  # nothing changed
    assert publish_newest(sessions, training, {}) is None
    ((asset, extra),) = training.events
    assert asset == KNOWLEDGE_BASE_ASSET and extra["documents"] == 1 and extra[IDEMPOTENCY_KEY]


def test_clearing_empties_store_and_ledger_and_keeps_the_history(sessions: sessionmaker[Session]) -> None:
    store = FakeVectorStore()
    run_sync(store, sessions, "a", 2, "run1")
    assert sync.clear(store, sessions, Request(utc_now() + timedelta(hours=1)), "run2") == 1
    assert not store.collection_exists()
    with sessions() as session:
        assert ledger.read_current(session) == {}
        assert len(session.scalars(select(DocumentVersion)).all()) == 1
