from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from shared.ledger.models import Base, KnowledgeVersion
from shared.ledger.sessions import create_sessions
from shared.times import show_time, write_time

AUCKLAND = datetime(2026, 11, 25, 0, 30, 5, 7, timezone(timedelta(hours=13)))


@pytest.mark.parametrize("at", [AUCKLAND, AUCKLAND.astimezone(UTC), datetime(2026, 11, 24, 11, 30, 5)])
def test_one_moment_is_written_in_one_way(at: datetime) -> None:
    assert write_time(at) == "2026-11-24T11:30:05+00:00"
    assert show_time(at) == "24 Nov 2026, 11:30:05 UTC"
    assert show_time(at, seconds=False) == "24 Nov 2026, 11:30 UTC"


@pytest.mark.parametrize(
    "stamp", ["2026-11-25T00:30:05+13:00", "2026-11-24T11:30:05.000007Z", "2026-11-24T11:30:05"]
)
def test_what_programs_write_is_shown_in_utc(stamp: str) -> None:
    assert show_time(stamp) == "24 Nov 2026, 11:30:05 UTC"


def test_no_time_is_a_dash() -> None:
    assert show_time(None) == show_time("") == "–"


def test_times_of_the_ledger_keep_their_moment_and_have_a_zone(tmp_path: Path) -> None:
    sessions = create_sessions(f"sqlite:///{tmp_path / 'ledger.db'}")
    Base.metadata.create_all(sessions.kw["bind"])
    row = {"digest": "d" * 64, "documents": 1, "chunks": 1, "ingest_run": "r"}
    with sessions.begin() as session:
        session.add(KnowledgeVersion(**row, created_at=AUCKLAND))
    with sessions() as session:
        assert isinstance(session, Session)
        at = session.query(KnowledgeVersion).one().created_at
    assert (at, at.tzinfo) == (AUCKLAND, UTC)
