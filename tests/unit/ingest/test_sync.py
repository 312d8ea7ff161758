"""Store and ledger in step: what a store does not give back is not written, what nobody accounts for is deleted."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger, sync
from deployments.ingest.errors import SyncError
from deployments.ingest.ledger import Turn, Version
from deployments.ingest.publication import publish_newest
from shared.contracts import IDEMPOTENCY_KEY, KNOWLEDGE_BASE_ASSET, chunk_id
from shared.ledger.models import DocumentVersion
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk, VectorStoreError
from tests.ingest import Deployment

URI, OTHER = "knowledge://guides/assets.md", "knowledge://a/first.md"


def take_turn(sessions: sessionmaker[Session], run: str = "run1") -> Turn:
    with sessions.begin() as session:
        return ledger.take_turn(session, run)


def make_chunks(version: Version) -> list[EmbeddedChunk]:
    return [
        EmbeddedChunk(
            Chunk(name, version.uri, version.content_hash, n, "guides", "T", "", f"{n}", version.recipe), [1.0, 0.0]
        )
        for n, name in enumerate(sync.list_chunk_ids(version))
    ]  # fmt: skip


def make_current(sessions: sessionmaker[Session], *versions: Version) -> None:
    with sessions.begin() as session:
        session.add_all(
            DocumentVersion(
                uri=v.uri, source="guides", title="T", content_hash=v.content_hash, size=1, chunks=v.chunks,
                recipe=v.recipe, ingest_run="run0",
            )
            for v in versions
        )  # fmt: skip


def test_ids_follow_from_uri_content_position_and_recipe() -> None:
    assert sync.list_chunk_ids(Version(URI, "h", "", 2)) == [chunk_id(URI, "h", 0), chunk_id(URI, "h", 1)]
    assert sync.list_chunk_ids(Version(URI, "h", "r", 3), 2) == [chunk_id(URI, "h", 2, "r")]


def test_a_store_that_goes_away_leaves_the_journal(sessions: sessionmaker[Session]) -> None:
    store, version, turn = FakeVectorStore(), Version(URI, "a", "r", 2), take_turn(sessions)
    store.fail_next = True
    with pytest.raises(VectorStoreError):
        sync.write_chunks(make_chunks(version), {URI: version}, set(), store, sessions, turn)
    with sessions() as session:
        assert list(ledger.read_journal(session)) == [(version, 0)]
    assert sync.take_back(store, sessions, turn) == 2
    with sessions() as session:
        assert list(ledger.read_journal(session)) == []


class ForgetfulStore(FakeVectorStore):
    """Takes what it is given and gives back less, or other texts."""

    def __init__(self, *, loses: int = 0, spoils: bool = False) -> None:
        super().__init__()
        self.loses, self.spoils = loses, spoils

    def write(self, chunks: Any, *, fresh: bool = False) -> None:
        super().write(chunks[self.loses :], fresh=fresh)

    def get(self, ids: Any) -> dict[str, Chunk]:
        found = super().get(ids)
        return {key: replace(chunk, text="x") if self.spoils else chunk for key, chunk in found.items()}


def test_what_a_store_does_not_give_back_is_not_written(sessions: sessionmaker[Session]) -> None:
    turn = take_turn(sessions)
    versions = {URI: Version(URI, "a", "r", 2), OTHER: Version(OTHER, "b", "r", 2)}
    chunks = [chunk for version in versions.values() for chunk in make_chunks(version)]
    with pytest.raises(SyncError) as error:
        sync.write_chunks(chunks, versions, set(), ForgetfulStore(loses=3), sessions, turn)
    assert str(error.value) == "3 of 4 chunks are not in the store after writing them; try again."
    with pytest.raises(SyncError) as error:
        sync.write_chunks(chunks, versions, set(), ForgetfulStore(spoils=True), sessions, turn)
    assert str(error.value) == f"The store gives back other content than was written for {OTHER}, {URI}."


def test_what_is_taken_back_is_what_is_not_current(sessions: sessionmaker[Session]) -> None:
    """Of a version that is current, with fewer chunks than were once begun, those beyond go."""
    store, turn = FakeVectorStore(), take_turn(sessions)
    current, begun, half = Version(URI, "a", "", 2), Version(URI, "b", "r", 3), Version(URI, "a", "", 4)
    make_current(sessions, current)
    for version in (half, begun):
        store.write(make_chunks(version))
    with sessions.begin() as session:
        ledger.open_journal(session, [half, begun], "run1")
    assert sync.take_back(store, sessions, turn) == 5
    assert {chunk.id for chunk in store.iterate()} == set(sync.list_chunk_ids(current))


def test_a_journal_keeps_the_larger_count_and_the_newest_run(sessions: sessionmaker[Session]) -> None:
    for run, versions in (("run1", [(3, "a"), (1, "b")]), ("run2", [(2, "a"), (4, "b")])):
        with sessions.begin() as session:
            ledger.open_journal(session, [Version(URI, name, "r", n) for n, name in versions], run)
    with sessions() as session:
        found = {version.content_hash: version.chunks for version, _ in ledger.read_journal(session)}
    assert found == {"a": 3, "b": 4}


class CountingStore(FakeVectorStore):
    """Notes how often it is walked."""

    walks = 0

    def iterate(self) -> Any:
        self.walks += 1
        return super().iterate()


def test_the_store_is_walked_only_where_its_count_is_another(sessions: sessionmaker[Session]) -> None:
    store, turn = CountingStore(), take_turn(sessions)
    kept, hurt, begun = Version(URI, "a", "r", 2), Version(OTHER, "b", "r", 3), Version(URI, "c", "r", 2)
    make_current(sessions, kept, hurt)
    for version in (kept, hurt, begun):
        store.write(make_chunks(version))
    with sessions.begin() as session:  # what an interrupted run left is accounted for
        ledger.open_journal(session, [begun], "run1")
    with sessions() as session:
        assert sync.find_damaged(store, session) == [] and store.walks == 0
    sync.take_back(store, sessions, turn)
    assert sync.reconcile(store, sessions, turn) == 0 and store.walks == 0
    ids = sync.list_chunk_ids(hurt)
    store.delete([ids[0], ids[2]])
    with sessions() as session:
        assert sync.find_damaged(store, session) == [(OTHER, 2)]
    assert sync.reconcile(store, sessions, turn, known=[OTHER], lost=2) == 0 and store.walks == 1


def test_what_reconciling_deletes_keeps_and_says(sessions: sessionmaker[Session]) -> None:
    store, turn = FakeVectorStore(), take_turn(sessions)
    kept, hurt = Version(URI, "a", "r", 2), Version(OTHER, "b", "r", 3)
    make_current(sessions, kept, hurt)
    for version in (kept, hurt):
        store.write(make_chunks(version))
    strays = [*make_chunks(Version("x", "y", "", 3)), *make_chunks(Version(URI, "a", "", 1))]
    store.write(strays)
    store.delete([sync.list_chunk_ids(hurt)[1]])
    with pytest.raises(SyncError) as error:
        sync.reconcile(store, sessions, turn, known=[URI])
    assert str(error.value) == (
        "1 of 5 chunks are missing in the store, as after a loss of power. The next run writes their documents again, "
        "or names them; `ghostwriter knowledge sync` starts one."
    )
    assert store.count() == 4
    store.write(strays)
    assert sync.reconcile(store, sessions, turn, known=[OTHER], lost=1) == 4
    assert store.count() == 4


def test_a_state_of_the_knowledge_base_is_named_by_its_contents(sessions: sessionmaker[Session]) -> None:
    lines = f"{OTHER} b\n{URI} a\n"
    with sessions() as session:
        assert ledger.compute_digest(session) == hashlib.sha256(b"").hexdigest()
    make_current(
        sessions,
        Version(URI, "a", "r", 2),
        Version(OTHER, "b", "", 1),
        Version("knowledge://é/ü", "c", "", 1),
    )
    with sessions.begin() as session:
        digest = ledger.compute_digest(session)
        assert digest == hashlib.sha256(f"{lines}knowledge://é/ü c\n".encode()).hexdigest()
        version = ledger.add_version(session, "run1")
        assert version is not None and (version.documents, version.chunks) == (3, 4)
    with sessions.begin() as session:
        assert ledger.add_version(session, "run2") is None


class Training:
    """Takes asset events, or refuses them while `down`."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.down = False

    def post_asset_event(self, asset_uri: str, extra: Mapping[str, Any]) -> None:
        if self.down:
            raise ConnectionError
        self.events.append((asset_uri, extra))


def test_each_version_is_published_once_and_again_only_when_nobody_took_it(deployment: Deployment) -> None:
    sessions, training = deployment.sessions, Training()
    assert publish_newest(sessions, training, {}) is None
    deployment.shelf.put(URI, "# Assets\n\na fact")
    deployment.sync()
    training.down = True
    with pytest.raises(ConnectionError):
        publish_newest(sessions, training, {})
    training.down = False
    assert publish_newest(sessions, training, {"parentRunId": "r"}) is not None
    assert publish_newest(sessions, training, {}) is None
    deployment.sync()  # nothing changed
    assert publish_newest(sessions, training, {}) is None
    ((asset, extra),) = training.events
    assert asset == KNOWLEDGE_BASE_ASSET and extra["documents"] == 1 and extra[IDEMPOTENCY_KEY]
