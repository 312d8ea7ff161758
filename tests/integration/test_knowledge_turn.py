"""Turns on a real Postgres: a clearing waits for who is changing something; the batches of one run wait for nobody."""

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger, sync
from deployments.ingest.clearing import Request
from deployments.ingest.errors import OvertakenError
from deployments.ingest.ledger import Turn, Version
from shared.contracts import chunk_id
from shared.ledger.models import utc_now
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk
from tests.postgres_server import serve_ledger, wait_for

SECONDS = 20.0


@pytest.fixture
def sessions() -> Iterator[sessionmaker[Session]]:
    with serve_ledger() as made:
        yield made


class SlowStore(FakeVectorStore):
    """Writes when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.writers = threading.Semaphore(0)
        self.go_on = threading.Event()

    def write(self, chunks: Sequence[EmbeddedChunk], *, fresh: bool = False) -> None:
        if chunks:
            self.writers.release()
            assert self.go_on.wait(SECONDS)
        super().write(chunks, fresh=fresh)


def write_document(name: str, store: FakeVectorStore, sessions: sessionmaker[Session], turn: Turn) -> None:
    uri = f"knowledge://guides/{name}.md"
    chunk = Chunk(chunk_id(uri, "h", 0, "r"), uri, "h", 0, "guides", name, "", name, "r")
    versions = {uri: Version(uri, "h", "r", 1)}
    sync.write_chunks([EmbeddedChunk(chunk, [1.0])], versions, set(), store, sessions, turn)


def take_turn(sessions: sessionmaker[Session], run: str) -> Turn:
    with sessions.begin() as session:
        return ledger.take_turn(session, run)


def count_waiting(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return (
            session.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")) or 0
        )


def test_a_clearing_waits_for_batches_that_are_being_written_side_by_side(
    sessions: sessionmaker[Session],
) -> None:
    store, turn = SlowStore(), take_turn(sessions, "run")
    written: list[str] = []

    def write(name: str) -> None:
        write_document(name, store, sessions, turn)
        written.append(name)

    def clear() -> None:
        sync.clear(store, sessions, Request(utc_now() + timedelta(hours=1)), "clear")

    writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b")]
    for thread in writers:
        thread.start()
    for _ in writers:  # both are in the middle of it at the same time
        assert store.writers.acquire(timeout=SECONDS)
    clearing = threading.Thread(target=clear)
    clearing.start()
    wait_for(lambda: count_waiting(sessions) == 1, SECONDS)
    assert store.collection_exists()
    store.go_on.set()
    for thread in (*writers, clearing):
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert len(written) == 2 and not store.collection_exists()
    with pytest.raises(OvertakenError, match="run was overtaken by clear"):
        write_document("c", store, sessions, turn)
    with sessions() as session:
        assert ledger.count_current(session) == (0, 0) and list(ledger.read_journal(session)) == []


def test_a_turn_is_taken_when_the_one_before_is_not_in_use_any_more(sessions: sessionmaker[Session]) -> None:
    first = take_turn(sessions, "a")
    with sessions.begin() as session:
        assert ledger.lock_turn(session) == first
        later: list[Turn] = []
        thread = threading.Thread(target=lambda: later.append(take_turn(sessions, "b")))
        thread.start()
        wait_for(lambda: count_waiting(sessions) == 1, SECONDS)
    thread.join(SECONDS)
    assert later == [Turn(first.number + 1, "b")]


def test_batches_that_come_later_do_not_pass_who_waits_for_the_turn(sessions: sessionmaker[Session]) -> None:
    turn = take_turn(sessions, "run")
    told: list[str] = []

    def write_late() -> None:
        try:
            with ledger.hold_turn(sessions, turn, shared=True):
                told.append("let in")
        except OvertakenError:
            told.append("overtaken")

    clearing = threading.Thread(target=take_turn, args=(sessions, "clear"))
    late = threading.Thread(target=write_late)
    with ledger.hold_turn(sessions, turn, shared=True):
        clearing.start()
        wait_for(lambda: count_waiting(sessions) == 1, SECONDS)
        late.start()
        wait_for(lambda: told or count_waiting(sessions) == 2, SECONDS)
    for thread in (clearing, late):
        thread.join(SECONDS)
    assert told == ["overtaken"]
