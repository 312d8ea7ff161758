"""Posts, their sources and what people thought of them."""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from shared.ledger.models.base import Base, BigId, utc_now


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
