"""The ingest deployment's turn and records in the ledger: sources, runs, journal, problems, versions.

It knows no store and no file.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest.errors import OvertakenError
from deployments.ingest.model import Problem
from deployments.ingest.staging import stream
from shared.knowledge import find_newest_version
from shared.ledger.models import (
    DocumentReference,
    DocumentVersion,
    KnowledgeProblem,
    KnowledgeSync,
    KnowledgeTurn,
    KnowledgeVersion,
    PendingWrite,
    utc_now,
)

_TURN_LOCK = 4_242_002  # of Postgres, held to the end of a transaction; who asked first is let in first

Row = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """A run's right to change store and ledger; it ends when another run plans, or the knowledge base is cleared."""

    number: int
    run: str  # Airflow Dag run id


@dataclass(frozen=True)
class Version:
    """One content of one document, read in one way: its chunks' ids follow from it."""

    uri: str
    content_hash: str
    recipe: str
    chunks: int


def take_turn(session: Session, run: str) -> Turn:
    """End everyone else's turn, once whoever is changing something has finished."""
    before = lock_turn(session)
    turn = Turn(before.number + 1 if before else 1, run)
    values = {"number": turn.number, "run": run, "taken_at": utc_now()}
    session.execute(
        insert(KnowledgeTurn)
        .values(id=1, **values)
        .on_conflict_do_update(index_elements=[KnowledgeTurn.id], set_=values)
    )
    return turn


def lock_turn(session: Session, *, shared: bool = False) -> Turn | None:
    """Whose turn it is, until this transaction ends; `shared` lets other sharers in. None before the first turn."""
    # Not the row's own lock: there, batch after batch would share it past whoever waits for all of them to end.
    lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
    session.execute(select(lock(_TURN_LOCK)))
    return read_turn(session)


def read_turn(session: Session) -> Turn | None:
    """Whose turn it was a moment ago; None before the first turn."""
    row = session.execute(
        select(KnowledgeTurn.number, KnowledgeTurn.run).where(KnowledgeTurn.id == 1)
    ).first()
    return Turn(row.number, row.run) if row else None


def check_turn(now: Turn | None, turn: Turn) -> None:
    """Raises OvertakenError where it is not this turn any more."""
    if now == turn:
        return
    by = f"by {now.run}" if now and now.run != turn.run else "by a newer try of this run"
    raise OvertakenError(
        f"{turn.run} was overtaken {by}, which planned after it or cleared the knowledge base. Nothing was "
        "changed: its plan is out of date. The next run does what is left; `ghostwriter knowledge sync` "
        "starts one."
    )


@contextmanager
def hold_turn(sessions: sessionmaker[Session], turn: Turn, *, shared: bool = False) -> Iterator[Session]:
    """A transaction in which no other run changes store or ledger; `shared` lets the run's own batches in.

    Raises OvertakenError.
    """
    with sessions.begin() as session:
        check_turn(lock_turn(session, shared=shared), turn)
        yield session


# --- Sources and runs -------------------------------------------------------------------------------------------------


def begin_sync(session: Session, run: str, reason: str) -> None:
    """The run has begun, or begins anew."""
    values: Row = {
        "reason": reason, "started_at": utc_now(), "ended_at": None, "outcome": "running",
        "counts": {}, "sources": {}, "seconds": {},
    }  # fmt: skip
    session.execute(
        insert(KnowledgeSync)
        .values(run=run, **values)
        .on_conflict_do_update(index_elements=[KnowledgeSync.run], set_=values)
    )


def end_other_syncs(session: Session, run: str) -> None:
    """No other run can come to anything any more: this one has the turn."""
    session.execute(
        update(KnowledgeSync)
        .where(KnowledgeSync.run != run, KnowledgeSync.outcome == "running")
        .values(outcome="overtaken", ended_at=utc_now())
    )


def record_sync(session: Session, run: str, **values: Any) -> None:
    """Note more of the run: outcome, counts, sources, seconds, ended_at."""
    session.execute(update(KnowledgeSync).where(KnowledgeSync.run == run).values(**values))


def end_sync(session: Session, run: str, outcome: str) -> None:
    """The run came to this, unless it came to something already."""
    session.execute(
        update(KnowledgeSync)
        .where(KnowledgeSync.run == run, KnowledgeSync.outcome == "running")
        .values(outcome=outcome, ended_at=utc_now())
    )


def read_sync(session: Session, run: str) -> KnowledgeSync | None:
    """What is known of the run."""
    return session.get(KnowledgeSync, run)


def read_starts(session: Session) -> int | None:
    """How often the store had been started when it was last looked through; None where that is not known."""
    query = """SELECT (counts ->> 'store_starts')::bigint FROM knowledge_syncs WHERE counts ? 'store_starts'
               ORDER BY started_at DESC LIMIT 1"""
    return session.execute(text(query)).scalar()


def record_starts(session: Session, run: str, starts: int) -> None:
    """The store was looked through since its latest start."""
    session.execute(
        text(
            """UPDATE knowledge_syncs SET counts = counts || jsonb_build_object('store_starts', cast(:starts AS bigint))
               WHERE run = :run"""
        ),
        {"run": run, "starts": starts},
    )


# --- Documents --------------------------------------------------------------------------------------------------------


def count_current(session: Session) -> tuple[int, int]:
    """Documents of the knowledge base, and their chunks."""
    documents, chunks = session.execute(
        select(func.count(), func.coalesce(func.sum(DocumentVersion.chunks), 0)).where(
            DocumentVersion.superseded_at.is_(None)
        )
    ).one()
    return documents, chunks


def read_current(session: Session, uris: Sequence[str] | None = None) -> Iterator[Version]:
    """The current versions: all, streamed, or those of these documents."""
    query = "SELECT uri, content_hash, recipe, chunks FROM document_versions WHERE superseded_at IS NULL"
    if uris is None:
        rows = stream(session, query)
    else:
        rows = iter(session.execute(text(f"{query} AND uri = ANY(:uris)"), {"uris": list(uris)}))
    return (Version(*row) for row in rows)


# --- The journal ------------------------------------------------------------------------------------------------------


def open_journal(session: Session, versions: Iterable[Version], run: str) -> set[Version]:
    """Note versions before their chunks are sent; those that were not noted yet. Twice keeps the larger count."""
    ordered = sorted(set(versions), key=lambda v: (v.uri, v.content_hash, v.recipe))
    if not ordered:
        return set()
    rows = session.execute(
        text(
            """INSERT INTO pending_writes (uri, content_hash, recipe, chunks, ingest_run, at)
               SELECT uri, content_hash, recipe, chunks, :run, :now
               FROM unnest(cast(:uris AS text[]), cast(:hashes AS text[]), cast(:recipes AS text[]),
                 cast(:chunks AS integer[])) AS version (uri, content_hash, recipe, chunks)
               ON CONFLICT (uri, content_hash, recipe) DO UPDATE
                 SET chunks = greatest(pending_writes.chunks, excluded.chunks), ingest_run = excluded.ingest_run
               RETURNING uri, content_hash, recipe, xmax = 0"""
        ),
        {
            "run": run,
            "now": utc_now(),
            "uris": [version.uri for version in ordered],
            "hashes": [version.content_hash for version in ordered],
            "recipes": [version.recipe for version in ordered],
            "chunks": [version.chunks for version in ordered],
        },
    )
    inserted = {(uri, content_hash, recipe) for uri, content_hash, recipe, first in rows if first}
    return {v for v in ordered if (v.uri, v.content_hash, v.recipe) in inserted}


def read_journal(session: Session) -> Iterator[tuple[Version, int]]:
    """Versions whose chunks may be in the store, streamed; and how many of these, from the first, are current."""
    rows = stream(
        session,
        """SELECT p.uri, p.content_hash, p.recipe, p.chunks, coalesce(d.chunks, 0)
           FROM pending_writes p LEFT JOIN document_versions d
             ON d.uri = p.uri AND d.content_hash = p.content_hash AND d.recipe = p.recipe AND d.superseded_at IS NULL
           ORDER BY p.uri""",
    )
    return ((Version(*row[:4]), row[4]) for row in rows)


def close_journal(session: Session) -> None:
    """Everything that was begun is committed or taken back."""
    session.execute(delete(PendingWrite))


# --- Problems ---------------------------------------------------------------------------------------------------------


def replace_problems(session: Session, problems: Iterable[Problem], run: str) -> None:
    """These problems and no others; one that was known already keeps the run and the time that first met it."""
    found = dict.fromkeys(problems)
    gone = []
    for row in session.scalars(select(KnowledgeProblem)):
        known = Problem(row.uri, row.message, row.removal or "", row.fingerprint)
        if known in found:
            del found[known]
        else:
            gone.append(row.id)
    session.execute(delete(KnowledgeProblem).where(KnowledgeProblem.id.in_(gone)))
    now = utc_now()
    rows = [
        {
            "uri": p.uri, "message": p.message, "removal": p.removal or None, "fingerprint": p.fingerprint,
            "ingest_run": run, "found_at": now,
        }
        for p in found
    ]  # fmt: skip
    if rows:
        session.execute(insert(KnowledgeProblem), rows)


def read_problems(session: Session) -> list[Problem]:
    """What can't be used, as of the latest run, by URI."""
    rows = session.scalars(select(KnowledgeProblem).order_by(KnowledgeProblem.uri, KnowledgeProblem.id))
    return [Problem(row.uri, row.message, row.removal or "", row.fingerprint) for row in rows]


# --- Versions of the whole --------------------------------------------------------------------------------------------


def compute_digest(session: Session) -> str:
    """Names the state of the knowledge base: sha256 over all current "uri content_hash", a line each, by URI."""
    return session.execute(
        text(
            """SELECT encode(sha256(coalesce(convert_to(
                 string_agg(uri || ' ' || content_hash || chr(10), '' ORDER BY uri COLLATE "C"), 'UTF8'), '')), 'hex')
               FROM document_versions WHERE superseded_at IS NULL"""
        )
    ).scalar_one()


def add_version(session: Session, run: str) -> KnowledgeVersion | None:
    """A new knowledge-base version where the documents differ from the newest one's; None where they don't."""
    session.flush()
    digest = compute_digest(session)
    newest = find_newest_version(session)
    if newest is not None and newest.digest == digest:
        return None
    documents, chunks = count_current(session)
    version = KnowledgeVersion(digest=digest, documents=documents, chunks=chunks, ingest_run=run)
    session.add(version)
    return version


def supersede_all(session: Session, run: str) -> None:
    """No document is part of the knowledge base any more; the rows stay for audits, what sources showed goes."""
    session.execute(
        update(DocumentVersion)
        .where(DocumentVersion.superseded_at.is_(None))
        .values(superseded_at=utc_now(), superseded_by_run=run)
    )
    session.execute(delete(DocumentReference))


def sum_counts(*parts: Mapping[str, int]) -> dict[str, int]:
    """The sums by name."""
    total: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total
