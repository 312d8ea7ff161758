"""Store and ledger in step: journal, write, verify; take back what is not current; compare, mend, clear.

It knows no Airflow, no vendor and no file format; a crash between any two steps leaves old or new, and the next run
finishes the job.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger, staging
from deployments.ingest.clearing import Request, check_request
from deployments.ingest.errors import SyncError
from deployments.ingest.ledger import Turn, Version
from shared.contracts import chunk_id
from shared.knowledge import find_newest_version
from shared.vectors.port import EmbeddedChunk, VectorStore

log = logging.getLogger(__name__)


def list_chunk_ids(version: Version, first: int = 0) -> list[str]:
    """The ids of a document version's chunks, from the position `first`."""
    return [
        chunk_id(version.uri, version.content_hash, position, version.recipe)
        for position in range(first, version.chunks)
    ]


def write_chunks(
    chunks: Sequence[EmbeddedChunk],
    versions: Mapping[str, Version],
    fresh: set[Version],
    store: VectorStore,
    sessions: sessionmaker[Session],
    turn: Turn,
) -> None:
    """Journal the versions (by URI) that the chunks belong to, write the chunks, and verify them.

    `fresh` are versions that the caller itself sent first; those that are met first here join them. Chunks of versions
    that are current are left alone where they are in the store as they should be: someone may be reading them. Raises
    OvertakenError, VectorStoreError, SyncError.
    """
    touched = {versions[item.chunk.uri] for item in chunks}
    with ledger.hold_turn(sessions, turn, shared=True) as session:
        current = touched.intersection(ledger.read_current(session, [v.uri for v in touched]))
        # In a transaction of its own: the journal must be there before the first chunk is.
        with sessions.begin() as journal:
            fresh |= ledger.open_journal(journal, touched, turn.run) - current
        todo = _leave_out(chunks, {v.uri for v in current}, store)
        new = {version.uri for version in fresh}
        store.write([item for item in todo if item.chunk.uri in new], fresh=True)
        store.write([item for item in todo if item.chunk.uri not in new])
        _verify(todo, store)


def _leave_out(
    chunks: Sequence[EmbeddedChunk], live: Collection[str], store: VectorStore
) -> Sequence[EmbeddedChunk]:
    """Without the chunks of these URIs that the store has as they should be."""
    asked = [item.chunk.id for item in chunks if item.chunk.uri in live]
    there = store.get(asked) if asked else {}
    return [item for item in chunks if there.get(item.chunk.id) != item.chunk]


def _verify(chunks: Sequence[EmbeddedChunk], store: VectorStore) -> None:
    expected = {item.chunk.id for item in chunks}
    found = store.get(sorted(expected)) if expected else {}
    if lost := expected - set(found):
        raise SyncError(
            f"{len(lost)} of {len(expected)} chunks are not in the store after writing them; try again."
        )
    wrong = [item.chunk.uri for item in chunks if found[item.chunk.id] != item.chunk]
    if wrong:
        raise SyncError(
            f"The store gives back other content than was written for {', '.join(sorted(set(wrong))[:10])}."
        )


def take_back(store: VectorStore, sessions: sessionmaker[Session], turn: Turn) -> int:
    """Delete what the journal names and is not current, by id; then the journal is empty. How many chunks it named.

    Raises OvertakenError, VectorStoreError.
    """
    count = 0
    with ledger.hold_turn(sessions, turn) as session:
        for entries in staging.group(ledger.read_journal(session), 500):
            ids = [i for version, kept in entries for i in list_chunk_ids(version, kept)]
            store.delete(ids)
            count += len(ids)
        ledger.close_journal(session)
    return count


def mend(store: VectorStore, sessions: sessionmaker[Session], turn: Turn) -> int:
    """Where the store was started since it was last looked through, find and heal what that tore; how many chunks.

    A kill of the store costs chunks their place in its index, even such as it had acknowledged. Before the journal is
    closed, so that a death in here is followed by another look. Raises OvertakenError, VectorStoreError.
    """
    with ledger.hold_turn(sessions, turn) as session:
        starts = store.count_starts()
        if starts == ledger.read_starts(session):
            return 0
        if count := store.mend():
            log.warning("store: %d chunks were not found by their own vector, and are written anew", count)
        ledger.record_starts(session, turn.run, starts)
    return count


def find_damaged(store: VectorStore, session: Session) -> list[tuple[str, int]]:
    """Documents that lost chunks in the store, and how many each; by URI.

    The store is walked only where the number of its chunks is not what ledger and journal explain.
    """
    expected = ledger.count_current(session)[1]
    for entries in staging.group(ledger.read_journal(session), 500):
        # What an interrupted run left is known by id.
        expected += len(store.get([i for version, kept in entries for i in list_chunk_ids(version, kept)]))
    if (count := store.count()) == expected:
        return []
    log.warning("store: %d chunks where %d are accounted for: all are looked at", count, expected)
    missing, _ = _walk(store, ledger.read_current(session))
    return sorted(missing.items())


def reconcile(
    store: VectorStore,
    sessions: sessionmaker[Session],
    turn: Turn,
    *,
    known: Collection[str] = (),
    lost: int = 0,
) -> int:
    """Make the store hold exactly the ledger's chunks, the journal being empty; how many strays were deleted.

    The store is walked only where the number of its chunks is not what the ledger says, `lost` ones of the documents
    `known` to be damaged apart. Raises OvertakenError, VectorStoreError, and SyncError for other documents that lost
    chunks.
    """
    with ledger.hold_turn(sessions, turn) as session:
        expected = ledger.count_current(session)[1]
        if store.count() == expected - lost:
            return 0
        missing, strays = _walk(store, ledger.read_current(session))
        if strays:
            log.warning("store: %d chunks that no document accounts for are deleted", len(strays))
            store.delete(strays)
    if found := {uri: count for uri, count in missing.items() if uri not in known}:
        raise SyncError(
            f"{sum(found.values())} of {expected} chunks are missing in the store, as after a loss of power. The next "
            "run writes their documents again, or names them; `ghostwriter knowledge sync` starts one."
        )
    return len(strays)


def _walk(store: VectorStore, current: Iterable[Version]) -> tuple[dict[str, int], list[str]]:
    """Chunks that the store lacks, counted by URI, and the ids of those that no version accounts for.

    Memory grows with the documents, not with the chunks.
    """
    versions = {version.uri: version for version in current}
    missing = {version.uri: version.chunks for version in versions.values()}
    strays = []
    for chunk in store.iterate():
        version = versions.get(chunk.uri)
        if (
            version is not None
            and (chunk.content_hash, chunk.recipe) == (version.content_hash, version.recipe)
            and 0 <= chunk.position < version.chunks
            and chunk.id == chunk_id(chunk.uri, chunk.content_hash, chunk.position, chunk.recipe)
        ):
            missing[chunk.uri] -= 1
        else:
            strays.append(chunk.id)
    return {uri: count for uri, count in missing.items() if count}, strays


def clear(store: VectorStore, sessions: sessionmaker[Session], request: Request, run: str) -> int:
    """Empty the store, then the ledger's current documents; how many there were. Old posts stay auditable.

    Raises OutdatedRequestError, and OvertakenError where a run planned in the very moment.
    """
    with sessions.begin() as session:
        # Before the store is touched: an ingestion that is under way must not add to it any more.
        turn = ledger.take_turn(session, run)
        newest = find_newest_version(session)
        if newest is not None and newest.ingest_run == run:
            return 0  # an earlier try of this run was killed after its work was done
        check_request(request, newest.id if newest else None, datetime.now(UTC))
    with ledger.hold_turn(sessions, turn) as session:
        documents, _ = ledger.count_current(session)
        store.drop_collection()
        ledger.supersede_all(session, run)
        ledger.close_journal(session)
        ledger.replace_problems(session, [], run)
        ledger.add_version(session, run)
    return documents
