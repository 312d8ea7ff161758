"""A sync killed after any step leaves old or new, and the next run finishes the job."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger, sync
from deployments.ingest.ledger import Turn
from deployments.ingest.publication import publish_newest
from deployments.ingest.sources import Problem
from shared.contracts import IDEMPOTENCY_KEY, KNOWLEDGE_BASE_ASSET, chunk_id
from shared.ledger.models import (
    DocumentVersion,
    KnowledgeTurn,
    KnowledgeVersion,
    PendingWrite,
)
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk, VectorStoreError
from tests.unit.ingest.conftest import URI, make_rows, read_rows, run_sync, take_turn


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
