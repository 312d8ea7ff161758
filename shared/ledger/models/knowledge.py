"""Documents, their versions and texts, sources, runs, collections: what ingest must be able to prove or resume."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.ledger.models.base import Base, BigId, utc_now


class DocumentVersion(Base):
    """One content of one document, current while `superseded_at` is null; old ones stay for the audit of old posts."""

    __tablename__ = "document_versions"
    __table_args__ = (
        UniqueConstraint("uri", "content_hash", "ingested_at"),
        Index(
            "current_document",
            "uri",
            unique=True,
            postgresql_where=text("superseded_at IS NULL"),
            sqlite_where=text("superseded_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    uri: Mapped[str] = mapped_column(String(1024), index=True)
    source: Mapped[str] = mapped_column(String(200))
    title: Mapped[str] = mapped_column(Text)
    content_hash: Mapped[str] = mapped_column(String(64))  # sha256 hex of the bytes
    size: Mapped[int]  # bytes
    chunks: Mapped[int]  # ids follow from uri, content_hash, position and recipe: contracts.chunk_id
    recipe: Mapped[str] = mapped_column(
        String(100), default="", server_default=""
    )  # how it was extracted and split
    media_type: Mapped[str] = mapped_column(String(200), default="", server_default="")
    language: Mapped[str] = mapped_column(String(10), default="", server_default="")
    author: Mapped[str] = mapped_column(Text, default="", server_default="")
    dated: Mapped[date | None]  # when the document says that it was written
    place: Mapped[str] = mapped_column(Text, default="", server_default="")  # where a person finds it
    notes: Mapped[list[Any] | None]  # what a reader should know: ["read as Shift-JIS"]
    moved_from: Mapped[str | None] = mapped_column(String(1024))  # the URI that the same content had before
    ingest_run: Mapped[str] = mapped_column(String(250))  # Airflow Dag run id
    ingested_at: Mapped[datetime] = mapped_column(default=utc_now)
    superseded_at: Mapped[datetime | None]
    superseded_by_run: Mapped[str | None] = mapped_column(String(250))


class DocumentText(Base):
    """The text of one content as one extractor read it: its versions can be compared, and split anew."""

    __tablename__ = "document_texts"

    content_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    extractor: Mapped[str] = mapped_column(String(60), primary_key=True)  # the first part of a recipe
    text: Mapped[str] = mapped_column(Text)
    markdown: Mapped[bool]
    title: Mapped[str] = mapped_column(Text)
    pages: Mapped[list[Any]]  # where each page begins, in characters
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class DocumentReference(Base):
    """What a source showed of a document when it was last looked at: as long as it shows the same, nothing is read."""

    __tablename__ = "document_references"

    uri: Mapped[str] = mapped_column(String(1024), primary_key=True)
    source: Mapped[str] = mapped_column(String(200), index=True)
    key: Mapped[str] = mapped_column(Text)  # its connector opens it by this
    fingerprint: Mapped[str] = mapped_column(String(200))
    content_hash: Mapped[str] = mapped_column(String(64))  # of what was read under this fingerprint
    checked_at: Mapped[datetime] = mapped_column(default=utc_now)


class TextVector(Base):
    """The vector of a text by a model: no text is embedded twice. A row that is being made is locked by its maker."""

    __tablename__ = "text_vectors"

    model: Mapped[str] = mapped_column(String(200), primary_key=True)
    text_digest: Mapped[bytes] = mapped_column(
        LargeBinary(32), primary_key=True
    )  # sha256 of the embedded text
    vector: Mapped[bytes] = mapped_column(LargeBinary)  # float32, little-endian
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class PendingWrite(Base):
    """Journal: these chunks may be in Weaviate, whole or half. Unless the version is current, they go, by id."""

    __tablename__ = "pending_writes"

    uri: Mapped[str] = mapped_column(String(1024), primary_key=True)
    content_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    recipe: Mapped[str] = mapped_column(String(100), primary_key=True, default="", server_default="")
    chunks: Mapped[int]
    ingest_run: Mapped[str] = mapped_column(String(250))
    at: Mapped[datetime] = mapped_column(default=utc_now)


class KnowledgeTurn(Base):
    """Whose turn it is to change store and ledger: the newest plan's or clearing's. One row, behind a lock."""

    __tablename__ = "knowledge_turn"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # always 1
    number: Mapped[int] = mapped_column(BigInteger)  # grows with every plan and every clearing
    run: Mapped[str] = mapped_column(String(250))
    taken_at: Mapped[datetime] = mapped_column(default=utc_now)


class KnowledgeVersion(Base):
    """A state of the whole knowledge base; `digest` is over all current (uri, content_hash)."""

    __tablename__ = "knowledge_versions"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    documents: Mapped[int]
    chunks: Mapped[int]
    ingest_run: Mapped[str] = mapped_column(String(250))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    published_at: Mapped[datetime | None]  # when training acknowledged the asset event


class KnowledgeSource(Base):
    """A source as it is declared, and how it was when it was last looked at."""

    __tablename__ = "knowledge_sources"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    connector: Mapped[str] = mapped_column(String(40))
    options: Mapped[dict[str, Any]]  # without secrets
    state: Mapped[str] = mapped_column(String(20))  # declared, listed, failed (error says why), gone
    error: Mapped[str | None] = mapped_column(Text)
    documents: Mapped[int] = mapped_column(default=0)  # that it listed when it last could be listed
    listed_at: Mapped[datetime | None]  # when that was
    seconds: Mapped[float | None]
    run: Mapped[str] = mapped_column(String(250))  # that looked last


class KnowledgeSync(Base):
    """What came of a run of ingest."""

    __tablename__ = "knowledge_syncs"

    run: Mapped[str] = mapped_column(String(250), primary_key=True)
    reason: Mapped[str] = mapped_column(Text, default="")  # who or what asked for it
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str] = mapped_column(
        String(20), default="running"
    )  # nothing_new, changed, incomplete, overtaken, failed
    # added, changed, moved, removed, unchanged, duplicates, quarantined, withheld, chunks, embedded, reused
    counts: Mapped[dict[str, Any]]
    sources: Mapped[dict[str, Any]]  # the same by source
    seconds: Mapped[dict[str, Any]]  # by step


class KnowledgeCollection(Base):
    """A collection of the vector store; at most one is served, and at most one is being built beside it."""

    __tablename__ = "knowledge_collections"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    embedding_model: Mapped[str] = mapped_column(String(200))
    dimensions: Mapped[int]
    splitting: Mapped[str] = mapped_column(String(40))  # the second part of its documents' recipes
    state: Mapped[str] = mapped_column(
        String(20)
    )  # building, complete, serving, retired, dropped, cancelled, refused
    reason: Mapped[str] = mapped_column(Text, default="")  # why it was begun, or why it came to nothing
    documents: Mapped[int] = mapped_column(default=0)
    chunks: Mapped[int] = mapped_column(default=0)
    quality: Mapped[dict[str, Any] | None]  # recall, mrr, ndcg, refusals, and the run that measured them
    run: Mapped[str] = mapped_column(String(250))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    served_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class CollectionDocument(Base):
    """A version of a document that a collection which is not served yet holds whole."""

    __tablename__ = "collection_documents"

    collection: Mapped[int] = mapped_column(
        ForeignKey("knowledge_collections.id", ondelete="CASCADE"), primary_key=True
    )
    uri: Mapped[str] = mapped_column(String(1024), primary_key=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    recipe: Mapped[str] = mapped_column(String(100))
    chunks: Mapped[int]


class KnowledgeProblem(Base):
    """A document or source that can't be used, and what to do; the row goes when it is mended."""

    __tablename__ = "knowledge_problems"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    uri: Mapped[str] = mapped_column(Text)  # a bad name may be of any length
    message: Mapped[str] = mapped_column(Text)
    removal: Mapped[str | None] = mapped_column(
        String(64)
    )  # documents of a source are gone: what accepts that
    fingerprint: Mapped[str] = mapped_column(
        String(200), default="", server_default=""
    )  # of what could not be used
    ingest_run: Mapped[str] = mapped_column(String(250))  # the first run that met it
    found_at: Mapped[datetime] = mapped_column(default=utc_now)
