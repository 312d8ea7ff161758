"""What the ledger says of the knowledge base: documents, versions, sources, syncs, problems, and what a reader may see.

It only reads, and it knows no store, no source and no page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from shared.ledger.models import (
    CollectionDocument,
    DocumentText,
    DocumentVersion,
    KnowledgeProblem,
    KnowledgeSource,
    KnowledgeSync,
    KnowledgeVersion,
)
from shared.vectors.port import ScoredChunk


@dataclass(frozen=True)
class SourceCount:
    """What the knowledge base holds of one source."""

    source: str
    documents: int
    chunks: int
    changed: datetime  # when one of its documents last came or changed


def select_visible(session: Session, hits: Sequence[ScoredChunk]) -> list[ScoredChunk]:
    """The hits that are of a current version of their document, in order; one query.

    The store may also hold what a run has not committed yet, or has not cleared away.
    """
    uris = {hit.chunk.uri for hit in hits}
    if not uris:
        return []
    current = {
        (uri, content_hash, recipe)
        for uri, content_hash, recipe in session.execute(
            select(DocumentVersion.uri, DocumentVersion.content_hash, DocumentVersion.recipe).where(
                is_current(), DocumentVersion.uri.in_(sorted(uris))
            )
        )
    }
    return [hit for hit in hits if (hit.chunk.uri, hit.chunk.content_hash, hit.chunk.recipe) in current]


def select_in_collection(collection: int) -> Callable[[Session, Sequence[ScoredChunk]], list[ScoredChunk]]:
    """The like of `select_visible` for a collection that is not served yet: of what it holds whole."""

    def select_held(session: Session, hits: Sequence[ScoredChunk]) -> list[ScoredChunk]:
        row = CollectionDocument
        uris = sorted({hit.chunk.uri for hit in hits})
        query = select(row.uri, row.content_hash, row.recipe).where(
            row.collection == collection, row.uri.in_(uris)
        )
        held = {tuple(found) for found in session.execute(query)}
        return [hit for hit in hits if (hit.chunk.uri, hit.chunk.content_hash, hit.chunk.recipe) in held]

    return select_held


def is_current() -> ColumnElement[bool]:
    """The condition that a document version is the one that counts now."""
    return DocumentVersion.superseded_at.is_(None)


def count_sources(session: Session) -> list[SourceCount]:
    """Current documents and chunks by source, in the order of their names."""
    rows = session.execute(
        select(
            DocumentVersion.source,
            func.count(),
            func.coalesce(func.sum(DocumentVersion.chunks), 0),
            func.max(DocumentVersion.ingested_at),
        )
        .where(is_current())
        .group_by(DocumentVersion.source)
        .order_by(DocumentVersion.source)
    )
    return [SourceCount(name, documents, int(chunks), changed) for name, documents, chunks, changed in rows]


def list_documents(
    session: Session, *, source: str = "", words: str = "", after: str = "", limit: int = 100
) -> list[DocumentVersion]:
    """Current documents in the order of their URIs: of a source, with these words in URI or title, after a URI."""
    query = select(DocumentVersion).where(is_current()).order_by(DocumentVersion.uri).limit(limit)
    if source:
        query = query.where(DocumentVersion.source == source)
    if after:
        query = query.where(DocumentVersion.uri > after)
    for word in words.split():
        query = query.where(
            or_(
                DocumentVersion.uri.icontains(word, autoescape=True),
                DocumentVersion.title.icontains(word, autoescape=True),
            )
        )
    return list(session.scalars(query))


def list_uris(session: Session) -> list[str]:
    """URIs of all current documents."""
    return list(session.scalars(select(DocumentVersion.uri).where(is_current())))


def find_document(session: Session, uri: str) -> DocumentVersion | None:
    """The current version of a document, or None."""
    return session.scalar(select(DocumentVersion).where(is_current(), DocumentVersion.uri == uri))


def list_versions(session: Session, uri: str, limit: int = 100) -> list[DocumentVersion]:
    """All versions of a document, the newest first."""
    query = select(DocumentVersion).where(DocumentVersion.uri == uri)
    return list(
        session.scalars(
            query.order_by(DocumentVersion.ingested_at.desc(), DocumentVersion.id.desc()).limit(limit)
        )
    )


def find_text(session: Session, version: DocumentVersion) -> DocumentText | None:
    """The text of a version as it was extracted, or None where it was ingested before texts were kept."""
    extractor = version.recipe.partition("+")[0]
    return session.get(DocumentText, (version.content_hash, extractor))


def list_problems(session: Session) -> list[KnowledgeProblem]:
    """Documents and sources that can't be used, and removals that wait for a person; in the order of their URIs."""
    return list(session.scalars(select(KnowledgeProblem).order_by(KnowledgeProblem.uri)))


def list_sources(session: Session) -> list[KnowledgeSource]:
    """The sources as they were when they were last looked at, in the order of their names."""
    return list(session.scalars(select(KnowledgeSource).order_by(KnowledgeSource.name)))


def find_newest_version(session: Session) -> KnowledgeVersion | None:
    """The newest version of the knowledge base; None before the first."""
    return session.scalar(select(KnowledgeVersion).order_by(KnowledgeVersion.id.desc()).limit(1))


def list_syncs(session: Session, limit: int = 20) -> list[KnowledgeSync]:
    """Runs of ingest, the newest first."""
    return list(
        session.scalars(
            select(KnowledgeSync)
            .order_by(KnowledgeSync.started_at.desc(), KnowledgeSync.run.desc())
            .limit(limit)
        )
    )


def find_last_sync(session: Session) -> KnowledgeSync | None:
    """The run of ingest that began last; None before the first."""
    return next(iter(list_syncs(session, 1)), None)
