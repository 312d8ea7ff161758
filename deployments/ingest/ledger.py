"""The ingest deployment's questions to the ledger and what it writes there.

It knows no store and no file.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from deployments.ingest.plan import Current
from deployments.ingest.sources import Problem
from shared.ledger.models import (
    DocumentVersion,
    KnowledgeProblem,
    KnowledgeTurn,
    KnowledgeVersion,
    PendingWrite,
    utc_now,
)

_TURN_LOCK = 4_242_002  # of Postgres, held to the end of a transaction; who asked first is let in first


@dataclass(frozen=True)
class Turn:
    """A run's right to change store and ledger; it ends when another run plans, or the knowledge base is cleared."""

    number: int
    run: str  # Airflow Dag run id


def take_turn(session: Session, run: str) -> Turn:
    """End everyone else's turn, once whoever is changing something has finished."""
    _queue(session)
    row = session.get(KnowledgeTurn, 1)
    if row is None:
        row = KnowledgeTurn(id=1, number=0, run=run)
        session.add(row)
    row.number, row.run, row.taken_at = row.number + 1, run, utc_now()
    session.flush()
    return Turn(row.number, run)


def lock_turn(session: Session, *, shared: bool = False) -> Turn | None:
    """Whose turn it is, until this transaction ends; `shared` lets other sharers in. None before the first turn."""
    _queue(session, shared=shared)
    row = session.get(KnowledgeTurn, 1)
    return Turn(row.number, row.run) if row is not None else None


def _queue(session: Session, *, shared: bool = False) -> None:
    # Not the row's own lock: there, batch after batch would share it past whoever waits for all of them to end.
    if session.get_bind().dialect.name == "postgresql":
        lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
        session.execute(select(lock(_TURN_LOCK)))


def read_current(session: Session) -> dict[str, Current]:
    """The documents of the knowledge base, by URI."""
    rows = session.execute(
        select(DocumentVersion.uri, DocumentVersion.content_hash, DocumentVersion.chunks).where(
            DocumentVersion.superseded_at.is_(None)
        )
    )
    return {uri: Current(uri, content_hash, chunks) for uri, content_hash, chunks in rows}


def read_committed(session: Session, run: str) -> set[tuple[str, str]]:
    """(uri, content_hash) of the current documents that this run committed."""
    rows = session.execute(
        select(DocumentVersion.uri, DocumentVersion.content_hash).where(
            DocumentVersion.superseded_at.is_(None), DocumentVersion.ingest_run == run
        )
    )
    return {(uri, content_hash) for uri, content_hash in rows}


def open_journal(session: Session, writes: Iterable[tuple[str, str, int]], run: str) -> None:
    """Note (uri, content_hash, chunks) before their chunks are sent; noting twice keeps the larger count."""
    for uri, content_hash, chunks in writes:
        row = session.get(PendingWrite, (uri, content_hash, ""))
        if row is None:
            session.add(
                PendingWrite(uri=uri, content_hash=content_hash, recipe="", chunks=chunks, ingest_run=run)
            )
        else:
            row.chunks, row.ingest_run = max(row.chunks, chunks), run


def read_journal(session: Session) -> list[tuple[str, str, int]]:
    """(uri, content_hash, chunks) of all writes that were begun and not committed."""
    rows = session.execute(select(PendingWrite.uri, PendingWrite.content_hash, PendingWrite.chunks))
    return [(uri, content_hash, chunks) for uri, content_hash, chunks in rows]


def supersede(session: Session, uris: Sequence[str], run: str) -> None:
    """These documents are no longer part of the knowledge base; their rows stay for audits."""
    for start in range(0, len(uris), 500):
        session.execute(
            update(DocumentVersion)
            .where(
                DocumentVersion.uri.in_(uris[start : start + 500]), DocumentVersion.superseded_at.is_(None)
            )
            .values(superseded_at=utc_now(), superseded_by_run=run)
        )


def close_journal(session: Session) -> None:
    """Everything that was begun is committed or taken back."""
    session.execute(delete(PendingWrite))


def replace_problems(session: Session, problems: Iterable[Problem], run: str) -> None:
    """These problems and no others; one that was known already keeps the run and the time that first met it."""
    found = dict.fromkeys(problems)
    for row in session.scalars(select(KnowledgeProblem)):
        known = Problem(row.uri, row.message, row.removal or "")
        if known in found:
            del found[known]
        else:
            session.delete(row)
    session.add_all(
        KnowledgeProblem(uri=p.uri, message=p.message, removal=p.removal or None, ingest_run=run)
        for p in found
    )


def read_problems(session: Session) -> list[Problem]:
    """The files that the latest plan could not use, by URI."""
    rows = session.execute(
        select(KnowledgeProblem.uri, KnowledgeProblem.message).order_by(KnowledgeProblem.uri)
    )
    return [Problem(uri, message) for uri, message in rows]


def compute_digest(documents: Mapping[str, Current]) -> str:
    """Names a state of the knowledge base: sha256 over all (uri, content_hash)."""
    lines = (f"{uri} {documents[uri].content_hash}\n" for uri in sorted(documents))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def add_version(session: Session, run: str) -> KnowledgeVersion | None:
    """A new knowledge-base version where the documents differ from the newest one's; None where they don't."""
    session.flush()
    documents = read_current(session)
    digest = compute_digest(documents)
    newest = read_newest_version(session)
    if newest is not None and newest.digest == digest:
        return None
    version = KnowledgeVersion(
        digest=digest,
        documents=len(documents),
        chunks=sum(document.chunks for document in documents.values()),
        ingest_run=run,
    )
    session.add(version)
    return version


def read_newest_version(session: Session) -> KnowledgeVersion | None:
    """The knowledge base as it is now, or None before the first ingestion."""
    newest = select(func.max(KnowledgeVersion.id)).scalar_subquery()
    return session.scalar(select(KnowledgeVersion).where(KnowledgeVersion.id == newest))
