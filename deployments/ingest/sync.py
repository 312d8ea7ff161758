"""The steps of a sync over ports: write new, verify, delete old, commit the ledger last.

It knows no Airflow, no vendor and no file format; a crash between any two steps leaves old or new, and the next run
finishes the job.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger
from deployments.ingest.clearing import Request, check_request
from deployments.ingest.errors import OvertakenError, SyncError
from deployments.ingest.ledger import Turn
from deployments.ingest.plan import Current
from deployments.ingest.sources import Problem
from shared.contracts import chunk_id
from shared.ledger.models import DocumentVersion
from shared.vectors.port import Chunk, EmbeddedChunk, VectorStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Written:
    """A document whose new chunks are in the store and were verified there."""

    uri: str
    source: str
    title: str
    content_hash: str
    size: int
    chunks: int

    def as_current(self) -> Current:
        """As the ledger has it once it is committed."""
        return Current(self.uri, self.content_hash, self.chunks)


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    written: int
    removed: int
    missing: tuple[str, ...]  # URIs that were planned, but not written
    digest: str
    documents: int
    chunks: int


@contextmanager
def hold_turn(sessions: sessionmaker[Session], turn: Turn, *, shared: bool = False) -> Iterator[Session]:
    """A transaction in which no other run changes store or ledger; `shared` lets the run's own batches in.

    Raises OvertakenError.
    """
    with sessions.begin() as session:
        now = ledger.lock_turn(session, shared=shared)
        if now != turn:
            by = f"by {now.run}" if now and now.run != turn.run else "by a newer try of this run"
            raise OvertakenError(
                f"{turn.run} was overtaken {by}, which planned after it or cleared the knowledge base. Nothing was "
                "changed: its plan is out of date. The next run does what is left; `ghostwriter knowledge sync` "
                "starts one."
            )
        yield session


def list_chunk_ids(uri: str, content_hash: str, chunks: int) -> list[str]:
    """The ids of a document version's chunks."""
    return [chunk_id(uri, content_hash, position) for position in range(chunks)]


def write_batch(
    rows: Sequence[Mapping[str, Any]], store: VectorStore, sessions: sessionmaker[Session], turn: Turn
) -> list[Written]:
    """Journal, write and verify one batch of documents: `{document: Written, chunks: [{chunk, vector}]}`.

    What this run has committed already, and the store holds whole, is left alone. Raises OvertakenError.
    """
    written = [Written(**row["document"]) for row in rows]
    with hold_turn(sessions, turn, shared=True) as session:
        committed = ledger.read_committed(session, turn.run)
        whole = {d.uri for d in written if (d.uri, d.content_hash) in committed and _is_whole(d, store)}
        chunks = [
            EmbeddedChunk(Chunk(**item["chunk"]), item["vector"])
            for row in rows
            if row["document"]["uri"] not in whole
            for item in row["chunks"]
        ]
        # In a transaction of its own: the journal must be there before the first chunk is.
        with sessions.begin() as journal:
            todo = [(d.uri, d.content_hash, d.chunks) for d in written if d.uri not in whole]
            ledger.open_journal(journal, todo, turn.run)
        store.write(chunks)
        _verify(chunks, store)
    return written


def _is_whole(document: Written, store: VectorStore) -> bool:
    ids = list_chunk_ids(document.uri, document.content_hash, document.chunks)
    return len(store.get(ids)) == len(ids)


def _verify(chunks: Sequence[EmbeddedChunk], store: VectorStore) -> None:
    expected = {item.chunk.id for item in chunks}
    found = store.get(sorted(expected))
    if lost := expected - set(found):
        raise SyncError(
            f"{len(lost)} of {len(expected)} chunks are not in the store after writing them; try again."
        )
    wrong = [item.chunk.uri for item in chunks if found[item.chunk.id] != item.chunk]
    if wrong:
        raise SyncError(
            f"The store gives back other content than was written for {', '.join(sorted(set(wrong)))}."
        )


def commit_run(
    planned: Mapping[str, str],
    removed: Sequence[str],
    written: Sequence[Written],
    store: VectorStore,
    sessions: sessionmaker[Session],
    turn: Turn,
) -> Outcome:
    """Delete what is superseded, then commit the ledger. `planned` maps URI to content hash.

    Documents that were not written stay as they were, and are named in the outcome. Doing it again changes nothing.
    Raises OvertakenError.
    """
    with hold_turn(sessions, turn) as session:
        current = ledger.read_current(session)
        journal = ledger.read_journal(session)
        after = {uri: document for uri, document in current.items() if uri not in removed}
        after.update({d.uri: d.as_current() for d in written})
        keep = {i for d in after.values() for i in list_chunk_ids(d.uri, d.content_hash, d.chunks)}

        old = [i for d in current.values() for i in list_chunk_ids(d.uri, d.content_hash, d.chunks)]
        begun = [
            i for uri, content_hash, chunks in journal for i in list_chunk_ids(uri, content_hash, chunks)
        ]
        store.delete([i for i in dict.fromkeys([*old, *begun]) if i not in keep])

        fresh = [d for d in written if current.get(d.uri) != d.as_current()]
        ledger.supersede(session, [*removed, *(d.uri for d in fresh)], turn.run)
        session.flush()
        session.add_all([DocumentVersion(**asdict(d), ingest_run=turn.run) for d in fresh])
        ledger.close_journal(session)
        ledger.add_version(session, turn.run)
        digest = ledger.compute_digest(after)
    missing = tuple(sorted(set(planned) - {d.uri for d in written}))
    return Outcome(
        len(written),
        len(removed),
        missing,
        digest,
        len(after),
        sum(document.chunks for document in after.values()),
    )


def find_damaged(store: VectorStore, current: Mapping[str, Current]) -> set[str]:
    """URIs of documents that lost chunks in the store, all of them where the collection is new."""
    present = {chunk.id for chunk in store.iterate()}
    return {
        d.uri
        for d in current.values()
        if not present.issuperset(list_chunk_ids(d.uri, d.content_hash, d.chunks))
    }


def name_lost(problems: Sequence[Problem], lost: Collection[str]) -> list[Problem]:
    """The problems, and what else is wrong with documents that the store `lost` while their files can't be used."""
    known = {problem.uri: problem.message for problem in problems}
    advice = (
        "the store lost the earlier version that was kept: posts can't cite it until a run can read the file"
    )
    rest = [problem for problem in problems if problem.uri not in lost]
    return [*rest, *(Problem(uri, "; ".join(filter(None, (known.get(uri), advice)))) for uri in sorted(lost))]


def reconcile(
    store: VectorStore, sessions: sessionmaker[Session], turn: Turn, *, known: Collection[str] = frozenset()
) -> int:
    """Make the store hold exactly the ledger's chunks; how many strays were deleted.

    Raises OvertakenError, and SyncError for documents that lost chunks and are not `known` to have.
    """
    with hold_turn(sessions, turn) as session:
        current = ledger.read_current(session)
        expected = {
            i: d.uri for d in current.values() for i in list_chunk_ids(d.uri, d.content_hash, d.chunks)
        }
        present = {chunk.id for chunk in store.iterate()}
        if strays := present - expected.keys():
            log.warning("store: %d chunks that no document accounts for are deleted", len(strays))
            store.delete(sorted(strays))
    if lost := [i for i, uri in expected.items() if i not in present and uri not in known]:
        raise SyncError(
            f"{len(lost)} of {len(expected)} chunks are missing in the store, as after a loss of power. The next run "
            "writes their documents again, or names them; `ghostwriter knowledge sync` starts one."
        )
    return len(strays)


def clear(store: VectorStore, sessions: sessionmaker[Session], request: Request, run: str) -> int:
    """Empty the store, then the ledger's current documents; how many there were. Old posts stay auditable.

    Raises OutdatedRequestError, and OvertakenError where a run planned in the very moment.
    """
    with sessions.begin() as session:
        # Before the store is touched: an ingestion that is under way must not add to it any more.
        turn = ledger.take_turn(session, run)
        newest = ledger.read_newest_version(session)
        if newest is not None and newest.ingest_run == run:
            return 0  # an earlier try of this run was killed after its work was done
        check_request(request, newest.id if newest else None, datetime.now(UTC))
    with hold_turn(sessions, turn) as session:
        current = ledger.read_current(session)
        store.drop_collection()
        ledger.supersede(session, list(current), run)
        ledger.close_journal(session)
        ledger.replace_problems(session, [], run)
        ledger.add_version(session, run)
    return len(current)
