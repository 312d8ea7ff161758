"""A ledger in memory, and lineage events by the dozen."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import StaticPool

from shared import contracts
from shared.ledger.models import Base, LineageEvent, LineageQuarantine
from shared.lineage import EventType, build_event


class LedgerRows:
    """What the relay has put into the ledger behind `sessions`."""

    sessions: sessionmaker[Session]

    def stored(self) -> list[LineageEvent]:
        with self.sessions() as session:
            return list(session.scalars(select(LineageEvent).order_by(LineageEvent.id)))

    def quarantine(self) -> list[LineageQuarantine]:
        with self.sessions() as session:
            return list(session.scalars(select(LineageQuarantine)))


@pytest.fixture
def sessions() -> Iterator[sessionmaker[Session]]:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    Base.metadata.create_all(engine)
    yield sessionmaker(engine, expire_on_commit=False)
    engine.dispose()


@pytest.fixture
def make_event() -> Any:
    """`make_event(kind, run, second, job)`: an event of that run, so many seconds after ten o'clock."""

    def make(
        kind: EventType, run: int, second: int, job: str = "job", bare: bool = False, **more: Any
    ) -> dict[str, Any]:
        return build_event(
            kind,
            str(UUID(int=run)),
            contracts.INGEST_NAMESPACE,
            job,
            [] if bare else [contracts.DOCUMENTS],
            [] if bare else [contracts.CHUNKS],
            event_time=datetime(2026, 11, 23, 10, tzinfo=UTC) + timedelta(seconds=second),
            **more,
        )

    return make
