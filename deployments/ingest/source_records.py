"""What the ledger keeps of sources: which are declared, how they were found, the fingerprints that they showed."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from deployments.ingest.model import Source
from shared.ledger.models import DocumentReference, DocumentVersion, KnowledgeSource, utc_now

Row = dict[str, Any]


def list_source_names(session: Session) -> set[str]:
    """Sources that were declared, or that documents came from before sources were recorded."""
    declared = select(KnowledgeSource.name).where(KnowledgeSource.state != "gone")
    known = select(DocumentVersion.source).where(DocumentVersion.superseded_at.is_(None))
    return {*session.scalars(declared), *session.scalars(known.distinct())}


def declare_sources(session: Session, sources: Sequence[Source], gone: Collection[str], run: str) -> None:
    """These sources are declared, and those `gone` no more; what is known of them from earlier runs stays."""
    for source in sources:
        values = {"connector": source.connector, "options": dict(source.options), "run": run}
        row = insert(KnowledgeSource).values(name=source.name, state="declared", documents=0, **values)
        # One that comes back has not been looked at since.
        state = text(
            "CASE knowledge_sources.state WHEN 'gone' THEN 'declared' ELSE knowledge_sources.state END"
        )
        session.execute(
            row.on_conflict_do_update(
                index_elements=[KnowledgeSource.name], set_={**values, KnowledgeSource.state: state}
            )
        )
    session.execute(
        update(KnowledgeSource)
        .where(KnowledgeSource.name.in_(gone), KnowledgeSource.state != "gone")
        .values(state="gone", error=None, run=run)
    )


def record_listing(
    session: Session, source: str, run: str, seconds: float, *, documents: int = 0, error: str | None = None
) -> None:
    """How a source was found: `documents` that it listed, or the error for which it could not be listed whole."""
    found: Row = {"state": "listed", "error": None, "documents": documents, "listed_at": utc_now()}
    values = found if error is None else {"state": "failed", "error": error}
    session.execute(
        update(KnowledgeSource)
        .where(KnowledgeSource.name == source)
        .values(**values, seconds=round(seconds, 3), run=run)
    )


def read_source_errors(session: Session, sources: Sequence[str]) -> dict[str, str | None]:
    """Why each of these sources could not be listed, by name."""
    rows = session.execute(
        select(KnowledgeSource.name, KnowledgeSource.error).where(
            KnowledgeSource.name.in_(sources), KnowledgeSource.state == "failed"
        )
    )
    return {row.name: row.error for row in rows}


def read_known(session: Session, source: str) -> dict[str, str]:
    """Fingerprints by key, as the source was found when its documents were last read."""
    rows = session.execute(
        select(DocumentReference.key, DocumentReference.fingerprint).where(DocumentReference.source == source)
    )
    return {row.key: row.fingerprint for row in rows}


# --- The journal ------------------------------------------------------------------------------------------------------
