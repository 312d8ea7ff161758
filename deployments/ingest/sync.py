"""The steps of a sync over ports: write new, verify, delete old, commit the ledger last.

It knows no Airflow, no vendor and no file format; a crash between any two steps leaves old or new, and the next run
finishes the job.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger
from deployments.ingest.plan import Current
from shared.contracts import chunk_id
from shared.ledger.models import DocumentVersion
from shared.vectors.port import Chunk, EmbeddedChunk, VectorStore

log = logging.getLogger(__name__)


class SyncError(RuntimeError):
    """A step could not be finished; nothing committed is lost, and the next run takes it up again."""


class IncompleteSyncError(SyncError):
    """Some documents were not written: what could be done is done, and the same run can't do more."""


@dataclass(frozen=True)
class Written:
    """A document whose new chunks are in the store and were verified there."""

    uri: str
    source: str
    title: str
    content_hash: str
    size: int
    chunks: int


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    written: int
    removed: int
    missing: tuple[str, ...]  # URIs that were planned, but not written
    digest: str
    documents: int
    chunks: int


def list_chunk_ids(uri: str, content_hash: str, chunks: int) -> list[str]:
    """The ids of a document version's chunks."""
    return [chunk_id(uri, content_hash, position) for position in range(chunks)]


def write_batch(
    rows: Sequence[Mapping[str, Any]], store: VectorStore, sessions: sessionmaker[Session], run: str
) -> list[Written]:
    """Journal, write and verify one batch of documents: `{document: Written, chunks: [{chunk, vector}]}`."""
    written = [Written(**row["document"]) for row in rows]
    chunks = [EmbeddedChunk(Chunk(**item["chunk"]), item["vector"]) for row in rows for item in row["chunks"]]
    with sessions.begin() as session:
        ledger.open_journal(session, [(d.uri, d.content_hash, d.chunks) for d in written], run)
    store.write(chunks)
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
    return written


def commit_run(
    planned: Mapping[str, str],
    removed: Sequence[str],
    written: Sequence[Written],
    store: VectorStore,
    sessions: sessionmaker[Session],
    run: str,
) -> Outcome:
    """Delete what is superseded, then commit the ledger. `planned` maps URI to content hash.

    Documents that were not written stay as they were, and are named in the outcome.
    """
    with sessions() as session:
        current = ledger.read_current(session)
        journal = ledger.read_journal(session)
    after = {uri: document for uri, document in current.items() if uri not in removed}
    after.update({d.uri: Current(d.uri, d.content_hash, d.chunks) for d in written})
    keep = {i for d in after.values() for i in list_chunk_ids(d.uri, d.content_hash, d.chunks)}

    old = [i for d in current.values() for i in list_chunk_ids(d.uri, d.content_hash, d.chunks)]
    begun = [i for uri, content_hash, chunks in journal for i in list_chunk_ids(uri, content_hash, chunks)]
    store.delete([i for i in dict.fromkeys([*old, *begun]) if i not in keep])

    with sessions.begin() as session:
        fresh = [d for d in written if current.get(d.uri) != Current(d.uri, d.content_hash, d.chunks)]
        ledger.supersede(session, [*removed, *(d.uri for d in fresh)], run)
        session.flush()
        session.add_all([DocumentVersion(**asdict(d), ingest_run=run) for d in fresh])
        ledger.close_journal(session)
        ledger.add_version(session, run)
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


def reconcile(store: VectorStore, sessions: sessionmaker[Session]) -> int:
    """Make the store hold exactly the ledger's chunks; how many strays were deleted. Raises SyncError for lost ones."""
    with sessions() as session:
        current = ledger.read_current(session)
    expected = {i for d in current.values() for i in list_chunk_ids(d.uri, d.content_hash, d.chunks)}
    present = {chunk.id for chunk in store.iterate()}
    if strays := present - expected:
        log.warning("store: %d chunks that no document accounts for are deleted", len(strays))
        store.delete(sorted(strays))
    if lost := expected - present:
        raise SyncError(
            f"{len(lost)} of {len(expected)} chunks are missing in the store, as after a loss of power. The next run "
            "writes their documents again; `ghostwriter knowledge sync` starts one."
        )
    return len(strays)


def clear(store: VectorStore, sessions: sessionmaker[Session], run: str) -> int:
    """Empty the store, then the ledger's current documents; how many there were. Old posts stay auditable."""
    store.drop_collection()
    with sessions.begin() as session:
        current = ledger.read_current(session)
        ledger.supersede(session, list(current), run)
        ledger.close_journal(session)
        ledger.replace_problems(session, [], run)
        ledger.add_version(session, run)
    return len(current)
