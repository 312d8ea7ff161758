"""The ledger's own rules: its turn, its journal, versions that leave, problems that stay."""

from types import SimpleNamespace
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger
from deployments.ingest.sources import Problem
from shared.ledger.models import (
    DocumentVersion,
    KnowledgeProblem,
    PendingWrite,
)
from tests.unit.ingest.conftest import URI, read_rows


class PostgresSession:
    """As much of a session on PostgreSQL as shows what it is asked, since SQLite knows no such locks."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_bind(self) -> Any:
        return SimpleNamespace(dialect=postgresql.dialect())

    def execute(self, statement: Any) -> None:
        compiled = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
        self.asked.append(str(compiled).removeprefix("SELECT ").partition("(")[0])

    def get(self, kind: type, key: int) -> Any:
        return kind(id=key, number=4, run="run4")

    def flush(self) -> None:
        pass


def test_the_turn_is_locked_for_one_alone_or_for_the_batches_of_its_run() -> None:
    session: Any = PostgresSession()
    ledger.lock_turn(session)
    ledger.lock_turn(session, shared=True)
    assert ledger.take_turn(session, "run5").number == 5
    alone, shared = "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"
    assert session.asked == [alone, shared, alone]


def test_a_journal_keeps_the_larger_count_and_the_newest_run(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        ledger.open_journal(session, [(URI, "a", 3), (URI, "b", 1)], "run1")
    with sessions.begin() as session:
        ledger.open_journal(session, [(URI, "a", 2), (URI, "b", 4)], "run2")
    assert read_rows(sessions, PendingWrite) == [
        {"uri": URI, "content_hash": "a", "chunks": 3, "ingest_run": "run2"},
        {"uri": URI, "content_hash": "b", "chunks": 4, "ingest_run": "run2"},
    ]


def test_a_thousand_documents_leave_in_portions_and_nobody_else_does(sessions: sessionmaker[Session]) -> None:
    uris = [f"knowledge://guides/{number}.md" for number in range(1_002)]
    with sessions.begin() as session:
        session.add_all(
            DocumentVersion(
                uri=uri, source="guides", title="", content_hash="a", size=1, chunks=1, ingest_run="run1"
            )
            for uri in uris
        )
    with sessions.begin() as session:
        ledger.supersede(session, uris[:1_001], "run2")
    with sessions.begin() as session:
        ledger.supersede(session, uris[:1], "run3")  # it left before
        assert set(ledger.read_current(session)) == {uris[1_001]}
        assert ledger.read_committed(session, "run1") == {(uris[1_001], "a")}
        assert ledger.read_committed(session, "run2") == set()
        rows = session.scalars(
            select(DocumentVersion).where(DocumentVersion.superseded_at.is_not(None))
        ).all()
        assert {row.superseded_by_run for row in rows} == {"run2"} and len(rows) == 1_001


def test_problems_are_replaced_and_those_known_keep_their_first_run(sessions: sessionmaker[Session]) -> None:
    stays, gone = Problem("knowledge://b", "stays"), Problem("knowledge://c", "goes")
    digest = Problem("knowledge://a", "3 are gone", "1234")
    with sessions.begin() as session:
        ledger.replace_problems(session, [stays, gone, digest, stays], "run1")
    other = Problem("knowledge://a", "3 are gone", "5678")
    with sessions.begin() as session:
        ledger.replace_problems(session, [other, stays], "run2")
        session.flush()
        assert ledger.read_problems(session) == [
            Problem("knowledge://a", "3 are gone"),
            Problem("knowledge://b", "stays"),
        ]
    assert sorted(
        (r["uri"], r["removal"], r["ingest_run"]) for r in read_rows(sessions, KnowledgeProblem)
    ) == [
        ("knowledge://a", "5678", "run2"),
        ("knowledge://b", None, "run1"),
    ]
