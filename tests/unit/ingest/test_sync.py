"""A sync killed after any step leaves old or new, and the next run finishes the job."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger, sync
from deployments.ingest.clearing import Request
from deployments.ingest.ledger import Turn
from deployments.ingest.publication import publish_newest
from deployments.ingest.sources import Problem
from shared.contracts import IDEMPOTENCY_KEY, KNOWLEDGE_BASE_ASSET, chunk_id
from shared.ledger.models import (
    Base,
    DocumentVersion,
    KnowledgeProblem,
    KnowledgeTurn,
    KnowledgeVersion,
    PendingWrite,
    utc_now,
)
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


def test_what_a_commit_records_is_what_was_written(sessions: sessionmaker[Session]) -> None:
    store, turn = FakeVectorStore(), take_turn(sessions, "run1")
    other = "knowledge://notes/one.txt"
    rows = [*make_rows("b", 2, other), *make_rows("a", 3)]
    written = sync.write_batch(rows, store, sessions, turn)
    assert [(d.uri, d.title, d.chunks) for d in written] == [(other, "Assets", 2), (URI, "Assets", 3)]
    with sessions() as session:
        assert sorted(ledger.read_journal(session)) == [(URI, "a", 3), (other, "b", 2)]
    planned = {URI: "a", other: "b", "knowledge://x/2": "c", "knowledge://x/1": "c"}
    outcome = sync.commit_run(planned, [], written, store, sessions, turn)
    digest = hashlib.sha256(f"{URI} a\n{other} b\n".encode()).hexdigest()
    assert outcome == sync.Outcome(2, 0, ("knowledge://x/1", "knowledge://x/2"), digest, 2, 5)
    assert read_rows(sessions, DocumentVersion) == [
        {
            "id": number, "uri": uri, "source": "guides", "title": "Assets", "content_hash": content_hash, "size": 9,
            "chunks": chunks, "ingest_run": "run1", "superseded_by_run": None,
        }
        for number, (uri, content_hash, chunks) in enumerate([(other, "b", 2), (URI, "a", 3)], start=1)
    ]  # fmt: skip
    assert read_rows(sessions, KnowledgeVersion) == [
        {"id": 1, "digest": digest, "documents": 2, "chunks": 5, "ingest_run": "run1"}
    ]
    assert read_rows(sessions, PendingWrite) == []


def test_a_document_that_comes_back_with_other_chunks_is_a_new_version(
    sessions: sessionmaker[Session],
) -> None:
    store = FakeVectorStore()
    run_sync(store, sessions, "a", 4, "run1")
    turn = take_turn(sessions, "run2")
    written = sync.write_batch(make_rows("a", 2), store, sessions, turn)
    outcome = sync.commit_run({URI: "a"}, [], written, store, sessions, turn)
    assert (outcome.documents, outcome.chunks) == (1, 2) and texts(store) == {"a 0", "a 1"}
    with sessions() as session:
        rows = session.scalars(select(DocumentVersion).order_by(DocumentVersion.id)).all()
        assert [(row.chunks, row.superseded_by_run) for row in rows] == [(4, "run2"), (2, None)]
        assert rows[0].superseded_at is not None and rows[1].superseded_at is None
    # Only the documents and their contents make a version of the knowledge base.
    assert [row["ingest_run"] for row in read_rows(sessions, KnowledgeVersion)] == ["run1"]


def test_a_removal_beside_an_edit_takes_only_its_own_chunks(sessions: sessionmaker[Session]) -> None:
    store, other, kept = FakeVectorStore(), "knowledge://notes/one.txt", "knowledge://notes/two.txt"
    turn = take_turn(sessions, "run1")
    rows = [*make_rows("a", 2), *make_rows("b", 2, other), *make_rows("c", 1, kept)]
    sync.commit_run({}, [], sync.write_batch(rows, store, sessions, turn), store, sessions, turn)
    turn = take_turn(sessions, "run2")
    written = sync.write_batch(make_rows("a2", 1), store, sessions, turn)
    outcome = sync.commit_run({URI: "a2"}, [other], written, store, sessions, turn)
    assert (outcome.written, outcome.removed, outcome.documents, outcome.chunks) == (1, 1, 2, 2)
    assert texts(store) == {"a2 0", "c 0"}
    with sessions() as session:
        assert {uri: d.content_hash for uri, d in ledger.read_current(session).items()} == {
            URI: "a2",
            kept: "c",
        }


class ForgetfulStore(FakeVectorStore):
    """Takes what it is given and gives back less, or other texts."""

    def __init__(self, *, loses: int = 0, spoils: bool = False) -> None:
        super().__init__()
        self.loses, self.spoils = loses, spoils

    def write(self, chunks: Any) -> None:
        super().write(chunks[self.loses :])

    def get(self, ids: Any) -> dict[str, Chunk]:
        found = super().get(ids)
        return {key: replace(chunk, text="x") if self.spoils else chunk for key, chunk in found.items()}


def test_what_a_store_does_not_give_back_is_not_written(sessions: sessionmaker[Session]) -> None:
    other = "knowledge://a/first.md"
    rows = [*make_rows("a", 2), *make_rows("b", 2, other)]
    with pytest.raises(sync.SyncError) as error:
        sync.write_batch(rows, ForgetfulStore(loses=3), sessions, take_turn(sessions, "run1"))
    assert str(error.value) == "3 of 4 chunks are not in the store after writing them; try again."
    with pytest.raises(sync.SyncError) as error:
        sync.write_batch(rows, ForgetfulStore(spoils=True), sessions, take_turn(sessions, "run1"))
    assert str(error.value) == f"The store gives back other content than was written for {other}, {URI}."
    with sessions() as session:
        assert len(ledger.read_journal(session)) == 2 and ledger.read_current(session) == {}


def test_what_reconciling_deletes_keeps_and_says(
    sessions: sessionmaker[Session], caplog: pytest.LogCaptureFixture
) -> None:
    store, turn, other = FakeVectorStore(), take_turn(sessions, "run1"), "knowledge://notes/one.txt"
    rows = [*make_rows("a", 2), *make_rows("b", 3, other)]
    sync.commit_run({}, [], sync.write_batch(rows, store, sessions, turn), store, sessions, turn)
    assert sync.reconcile(store, sessions, turn) == 0
    strays = [Chunk(chunk_id("x", "y", n), "x", "y", n, "guides", "", "", "stray") for n in range(3)]
    store.write([EmbeddedChunk(stray, [1.0]) for stray in strays])
    store.delete([chunk_id(other, "b", 0), chunk_id(other, "b", 2)])
    with sessions() as session:
        assert sync.find_damaged(store, ledger.read_current(session)) == {other}
    with pytest.raises(sync.SyncError) as error:
        sync.reconcile(store, sessions, turn, known={URI})
    assert str(error.value) == (
        "2 of 5 chunks are missing in the store, as after a loss of power. The next run writes their documents again, "
        "or names them; `ghostwriter knowledge sync` starts one."
    )
    assert texts(store) == {"a 0", "a 1", "b 1"}
    store.write([EmbeddedChunk(stray, [1.0]) for stray in strays])
    assert sync.reconcile(store, sessions, turn, known={other}) == 3


def test_who_was_overtaken_learns_by_whom(sessions: sessionmaker[Session]) -> None:
    first = take_turn(sessions, "run1")
    assert first == Turn(1, "run1")
    rest = (
        ", which planned after it or cleared the knowledge base. Nothing was changed: its plan is out of date. The "
        "next run does what is left; `ghostwriter knowledge sync` starts one."
    )
    for run, by in (("run1", "by a newer try of this run"), ("run2", "by run2")):
        take_turn(sessions, run)
        for shared in (False, True):
            with pytest.raises(sync.OvertakenError) as error, sync.hold_turn(sessions, first, shared=shared):
                raise AssertionError("it is another's turn")
            assert str(error.value) == f"run1 was overtaken {by}{rest}"
    with sessions() as session:
        assert ledger.lock_turn(session) == Turn(3, "run2")
    assert [row["id"] for row in read_rows(sessions, KnowledgeTurn)] == [1]


class PostgresSession:
    """As much of a session on PostgreSQL as shows what it is asked, since SQLite knows no such locks."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_bind(self) -> Any:
        return SimpleNamespace(dialect=postgresql.dialect())

    def execute(self, statement: Any) -> None:
        compiled = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
        self.asked.append(str(compiled).removeprefix("SELECT ").partition("(")[0])

    def get(self, kind: type, key: int) -> Any:
        return kind(id=key, number=4, run="run4")

    def flush(self) -> None:
        pass


def test_the_turn_is_locked_for_one_alone_or_for_the_batches_of_its_run() -> None:
    session: Any = PostgresSession()
    ledger.lock_turn(session)
    ledger.lock_turn(session, shared=True)
    assert ledger.take_turn(session, "run5").number == 5
    alone, shared = "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"
    assert session.asked == [alone, shared, alone]


def test_a_journal_keeps_the_larger_count_and_the_newest_run(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        ledger.open_journal(session, [(URI, "a", 3), (URI, "b", 1)], "run1")
    with sessions.begin() as session:
        ledger.open_journal(session, [(URI, "a", 2), (URI, "b", 4)], "run2")
    assert read_rows(sessions, PendingWrite) == [
        {"uri": URI, "content_hash": "a", "chunks": 3, "ingest_run": "run2"},
        {"uri": URI, "content_hash": "b", "chunks": 4, "ingest_run": "run2"},
    ]


def test_a_thousand_documents_leave_in_portions_and_nobody_else_does(sessions: sessionmaker[Session]) -> None:
    uris = [f"knowledge://guides/{number}.md" for number in range(1_002)]
    with sessions.begin() as session:
        session.add_all(
            DocumentVersion(
                uri=uri, source="guides", title="", content_hash="a", size=1, chunks=1, ingest_run="run1"
            )
            for uri in uris
        )
    with sessions.begin() as session:
        ledger.supersede(session, uris[:1_001], "run2")
    with sessions.begin() as session:
        ledger.supersede(session, uris[:1], "run3")  # it left before
        assert set(ledger.read_current(session)) == {uris[1_001]}
        assert ledger.read_committed(session, "run1") == {(uris[1_001], "a")}
        assert ledger.read_committed(session, "run2") == set()
        rows = session.scalars(
            select(DocumentVersion).where(DocumentVersion.superseded_at.is_not(None))
        ).all()
        assert {row.superseded_by_run for row in rows} == {"run2"} and len(rows) == 1_001


def test_problems_are_replaced_and_those_known_keep_their_first_run(sessions: sessionmaker[Session]) -> None:
    stays, gone = Problem("knowledge://b", "stays"), Problem("knowledge://c", "goes")
    digest = Problem("knowledge://a", "3 are gone", "1234")
    with sessions.begin() as session:
        ledger.replace_problems(session, [stays, gone, digest, stays], "run1")
    other = Problem("knowledge://a", "3 are gone", "5678")
    with sessions.begin() as session:
        ledger.replace_problems(session, [other, stays], "run2")
        session.flush()
        assert ledger.read_problems(session) == [
            Problem("knowledge://a", "3 are gone"),
            Problem("knowledge://b", "stays"),
        ]
    assert sorted(
        (r["uri"], r["removal"], r["ingest_run"]) for r in read_rows(sessions, KnowledgeProblem)
    ) == [
        ("knowledge://a", "5678", "run2"),
        ("knowledge://b", None, "run1"),
    ]


def test_documents_that_the_store_lost_are_named_beside_what_else_is_wrong_with_them() -> None:
    lost = (
        "the store lost the earlier version that was kept: posts can't cite it until a run can read the file"
    )
    other, both = Problem("knowledge://a", "binary"), Problem("knowledge://c", "too large", "digest")
    assert sync.name_lost([both, other], {"knowledge://c", "knowledge://b"}) == [
        other,
        Problem("knowledge://b", lost),
        Problem("knowledge://c", f"too large; {lost}"),
    ]
    assert sync.name_lost([both], set()) == [both]


def test_a_clearing_records_an_empty_version_of_its_own_and_works_once(
    sessions: sessionmaker[Session],
) -> None:
    store, request = FakeVectorStore(), Request(utc_now() + timedelta(hours=1))
    run_sync(store, sessions, "a", 2, "run1")
    with sessions.begin() as session:
        ledger.open_journal(session, [(URI, "b", 3)], "run1")
        ledger.replace_problems(session, [Problem("knowledge://a", "binary")], "run1")
    assert sync.clear(store, sessions, request, "clear") == 1
    empty = hashlib.sha256(b"").hexdigest()
    assert read_rows(sessions, KnowledgeVersion)[1:] == [
        {"id": 2, "digest": empty, "documents": 0, "chunks": 0, "ingest_run": "clear"}
    ]
    assert [row["superseded_by_run"] for row in read_rows(sessions, DocumentVersion)] == ["clear"]
    assert read_rows(sessions, PendingWrite) == read_rows(sessions, KnowledgeProblem) == []
    store.create_collection()
    assert sync.clear(store, sessions, request, "clear") == 0 and store.collection_exists()
    assert sync.clear(store, sessions, request, "again") == 0 and not store.collection_exists()


def test_a_clearing_before_the_first_ingestion_has_nothing_to_do(sessions: sessionmaker[Session]) -> None:
    soon = utc_now() + timedelta(hours=1)
    assert (
        sync.clear(FakeVectorStore(), sessions, Request(soon, any_version=False, version=None), "clear") == 0
    )
