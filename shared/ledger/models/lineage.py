"""Events of OpenLineage on their way to whoever shows them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.ledger.models.base import Base, BigId, utc_now


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
