"""The ledger's tables: what the team must be able to prove or resume after any crash.

They know no query; each room keeps its own queries beside its rules.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Json = JSON().with_variant(JSONB(), "postgresql")
BigId = BigInteger().with_variant(Integer(), "sqlite")


def utc_now() -> datetime:
    """The current time, with its zone."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """Always UTC, with its zone: Postgres would give a time back in the zone of its session, SQLite in none."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As it is stored."""
        return self.process_result_value(value, dialect)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As it is read."""
        if value is None or value.tzinfo is None:
            return value and value.replace(tzinfo=UTC)
        return value.astimezone(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: Json, list[Any]: Json}


# --- Knowledge ------------------------------------------------------------------------------------------------------
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
    chunks: Mapped[int]  # ids follow from uri, content_hash and position: contracts.chunk_id
    ingest_run: Mapped[str] = mapped_column(String(250))  # Airflow Dag run id
    ingested_at: Mapped[datetime] = mapped_column(default=utc_now)
    superseded_at: Mapped[datetime | None]
    superseded_by_run: Mapped[str | None] = mapped_column(String(250))


class PendingWrite(Base):
    """Journal: this document's new chunks may be half in Weaviate; the next run deletes them by id, then inserts."""

    __tablename__ = "pending_writes"

    uri: Mapped[str] = mapped_column(String(1024), primary_key=True)
    content_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
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


class KnowledgeProblem(Base):
    """A file or folder that the latest plan could not use, and what to do; the row goes when it is mended."""

    __tablename__ = "knowledge_problems"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    uri: Mapped[str] = mapped_column(Text)  # a bad name may be of any length
    message: Mapped[str] = mapped_column(Text)
    removal: Mapped[str | None] = mapped_column(
        String(64)
    )  # documents of a source are gone: what accepts that
    ingest_run: Mapped[str] = mapped_column(String(250))  # the first run that met it
    found_at: Mapped[datetime] = mapped_column(default=utc_now)


# --- Training -------------------------------------------------------------------------------------------------------
class PinnedContext(Base):
    """The chunks retrieved for an example when it was first prepared: later knowledge changes don't touch it."""

    __tablename__ = "pinned_contexts"

    example_digest: Mapped[str] = mapped_column(String(64), primary_key=True)  # sha256 of topic and text
    chunks: Mapped[list[Any]]  # [{chunk_id, uri, content_hash, title, text}]
    pinned_at: Mapped[datetime] = mapped_column(default=utc_now)


class TrainingSet(Base):
    """A frozen training set; `digest` is over the JSONL files and names them on disk."""

    __tablename__ = "training_sets"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    train_file: Mapped[str] = mapped_column(Text)
    validation_file: Mapped[str] = mapped_column(Text)
    holdout_file: Mapped[str] = mapped_column(Text)
    examples: Mapped[list[Any]]  # [{path, split, digest, chunk_ids}]
    counts: Mapped[dict[str, Any]]  # {train, validation, holdout}
    prompt_version: Mapped[str] = mapped_column(String(40))
    run: Mapped[str] = mapped_column(String(250))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class FineTuningJob(Base):
    """At most one job per training set and provider settings (`settings_digest`)."""

    __tablename__ = "fine_tuning_jobs"
    __table_args__ = (UniqueConstraint("training_set", "settings_digest"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    training_set: Mapped[str] = mapped_column(ForeignKey("training_sets.digest"))
    settings_digest: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str | None] = mapped_column(String(200))  # null between reserving and creating
    # A final status is written in one step with what goes with it: the version, or the error.
    status: Mapped[str] = mapped_column(String(40), default="reserved")
    asked_at: Mapped[datetime | None]  # set while the answer to "create a job" is not known
    error: Mapped[str | None] = mapped_column(Text)  # the provider's reason, or who cancelled
    model_id: Mapped[str | None] = mapped_column(String(250))
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    model_version: Mapped[str | None] = mapped_column(String(20))
    trained_tokens: Mapped[int | None]
    seconds: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]


class PromotionVerdict(Base):
    """A challenger's exam against one rival: what both wrote is kept, so a retry judges the same posts again."""

    __tablename__ = "promotion_verdicts"

    key: Mapped[str] = mapped_column(
        String(64), primary_key=True
    )  # over the pair and all that the scores stand on
    holdout: Mapped[str] = mapped_column(String(64), index=True)  # over the holdout's topics and posts
    challenger: Mapped[str] = mapped_column(String(20))  # model versions
    rival: Mapped[str | None] = mapped_column(String(20))  # null: the base model
    texts: Mapped[dict[str, Any]]  # {model id: [a post for each topic]}
    number: Mapped[int | None]  # counts the verdicts on this holdout; null until it is given
    promote: Mapped[bool | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


# --- Posts ----------------------------------------------------------------------------------------------------------
class Post(Base):
    """A generated post, with all that is needed to say where it came from."""

    __tablename__ = "posts"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    topic: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    model_name: Mapped[str] = mapped_column(String(200))
    model_version: Mapped[str | None] = mapped_column(String(20))  # null: the base model
    model_alias: Mapped[str | None] = mapped_column(String(40))
    model_id: Mapped[str] = mapped_column(String(250))
    prompt_version: Mapped[str] = mapped_column(String(40))
    seconds: Mapped[float] = mapped_column(Float)
    author: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    sources: Mapped[list["PostSource"]] = relationship(
        order_by="PostSource.rank", cascade="all, delete-orphan"
    )


class PostSource(Base):
    """A chunk that stood in a post's prompt."""

    __tablename__ = "post_sources"

    post_id: Mapped[str] = mapped_column(ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True)
    rank: Mapped[int] = mapped_column(primary_key=True)  # 1 is the best
    uri: Mapped[str] = mapped_column(String(1024), index=True)
    content_hash: Mapped[str] = mapped_column(String(64))
    chunk_id: Mapped[str] = mapped_column(String(40))
    title: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    score: Mapped[float]


class Feedback(Base):
    """A thumb up (1) or down (-1); the last one of a person counts."""

    __tablename__ = "feedback"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    post_id: Mapped[str] = mapped_column(ForeignKey("posts.id", ondelete="CASCADE"), index=True)
    rating: Mapped[int]
    author: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


# --- Lineage --------------------------------------------------------------------------------------------------------
class LineageEvent(Base):
    """An OpenLineage event, cleaned of what must not leave, stored once."""

    __tablename__ = "lineage_events"
    __table_args__ = (Index("undelivered", "run_id", postgresql_where=text("delivered_at IS NULL")),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    deployment: Mapped[str] = mapped_column(String(40))
    run_id: Mapped[str] = mapped_column(String(64), index=True)
    job_namespace: Mapped[str] = mapped_column(String(200))
    job_name: Mapped[str] = mapped_column(String(500))
    event_type: Mapped[str] = mapped_column(String(20))
    event_time: Mapped[datetime] = mapped_column(index=True)
    payload: Mapped[dict[str, Any]]
    stored_at: Mapped[datetime] = mapped_column(default=utc_now)
    delivered_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str | None] = mapped_column(Text)


class LineageOffset(Base):
    """How far a spool has been read; written in the transaction that stores its events."""

    __tablename__ = "lineage_offsets"

    spool: Mapped[str] = mapped_column(String(500), primary_key=True)
    inode: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(BigInteger)


class LineageQuarantine(Base):
    """A line or event that nobody could take, with the reason; once per spool, by the digest of all of it."""

    __tablename__ = "lineage_quarantine"
    __table_args__ = (UniqueConstraint("spool", "digest"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    spool: Mapped[str] = mapped_column(String(500))
    position: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str | None] = mapped_column(String(64))  # rows of the first versions have none
    line_excerpt: Mapped[str] = mapped_column(Text)
    error: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(default=utc_now)
