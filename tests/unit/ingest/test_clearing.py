"""What a clearing is asked for, until when it stands, and what it leaves behind."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest import ledger, sync
from deployments.ingest.clearing import OutdatedRequestError, Request, check_request, read_request
from deployments.ingest.sources import Problem
from shared.contracts import CLEAR_BEFORE, CLEAR_VERSION
from shared.ledger.models import (
    DocumentVersion,
    KnowledgeProblem,
    KnowledgeVersion,
    PendingWrite,
    utc_now,
)
from shared.vectors.fake import FakeVectorStore
from tests.unit.ingest.conftest import URI, read_rows, run_sync


def test_clearing_empties_store_and_ledger_and_keeps_the_history(sessions: sessionmaker[Session]) -> None:
    store = FakeVectorStore()
    run_sync(store, sessions, "a", 2, "run1")
    assert sync.clear(store, sessions, Request(utc_now() + timedelta(hours=1)), "run2") == 1
    assert not store.collection_exists()
    with sessions() as session:
        assert ledger.read_current(session) == {}
        assert len(session.scalars(select(DocumentVersion)).all()) == 1


def test_a_clearing_records_an_empty_version_of_its_own_and_works_once(
    sessions: sessionmaker[Session],
) -> None:
    store, request = FakeVectorStore(), Request(utc_now() + timedelta(hours=1))
    run_sync(store, sessions, "a", 2, "run1")
    with sessions.begin() as session:
        ledger.open_journal(session, [(URI, "b", 3)], "run1")
        ledger.replace_problems(session, [Problem("knowledge://a", "binary")], "run1")
    assert sync.clear(store, sessions, request, "clear") == 1
    empty = hashlib.sha256(b"").hexdigest()
    assert read_rows(sessions, KnowledgeVersion)[1:] == [
        {"id": 2, "digest": empty, "documents": 0, "chunks": 0, "ingest_run": "clear"}
    ]
    assert [row["superseded_by_run"] for row in read_rows(sessions, DocumentVersion)] == ["clear"]
    assert read_rows(sessions, PendingWrite) == read_rows(sessions, KnowledgeProblem) == []
    store.create_collection()
    assert sync.clear(store, sessions, request, "clear") == 0 and store.collection_exists()
    assert sync.clear(store, sessions, request, "again") == 0 and not store.collection_exists()


def test_a_clearing_before_the_first_ingestion_has_nothing_to_do(sessions: sessionmaker[Session]) -> None:
    soon = utc_now() + timedelta(hours=1)
    assert (
        sync.clear(FakeVectorStore(), sessions, Request(soon, any_version=False, version=None), "clear") == 0
    )


@pytest.mark.parametrize("conf", [{CLEAR_BEFORE: "soon"}, {CLEAR_BEFORE: 5}, {CLEAR_BEFORE: "2026-11-24"}])
def test_a_conf_that_cannot_be_read_is_no_request(conf: dict[str, object]) -> None:
    with pytest.raises(OutdatedRequestError, match="conf can't be read"):
        read_request(conf, utc_now())


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_a_request_says_until_when_and_at_which_version() -> None:
    later = NOW + timedelta(minutes=5)
    assert read_request({}, NOW) == Request(NOW + timedelta(hours=1), True, None)
    assert read_request({CLEAR_BEFORE: later.isoformat()}, NOW) == Request(later, True, None)
    assert read_request({CLEAR_VERSION: "3"}, NOW) == Request(NOW + timedelta(hours=1), False, 3)
    conf = {CLEAR_BEFORE: later.isoformat(), CLEAR_VERSION: None}
    assert read_request(conf, NOW) == Request(later, False, None)


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        ({CLEAR_BEFORE: "2026-11-24T12:00:00"}, "a time without its zone"),
        ({CLEAR_BEFORE: "soon"}, "Invalid isoformat string: 'soon'"),
        ({CLEAR_VERSION: "many"}, "invalid literal for int() with base 10: 'many'"),
    ],
)
def test_what_a_conf_that_cannot_be_read_says(conf: dict[str, object], why: str) -> None:
    with pytest.raises(OutdatedRequestError) as error:
        read_request(conf, NOW)
    assert str(error.value) == (
        f"The run's conf can't be read ({why}), and nothing was cleared: leave it empty, or use "
        "`ghostwriter knowledge clear`."
    )


def test_a_request_stands_up_to_its_last_moment_and_at_its_own_version() -> None:
    check_request(Request(NOW), 7, NOW)
    check_request(Request(NOW, any_version=False, version=7), 7, NOW)
    check_request(Request(NOW, any_version=False, version=None), None, NOW)
    with pytest.raises(OutdatedRequestError) as late:
        check_request(Request(NOW), 7, NOW + timedelta(microseconds=1))
    assert str(late.value) == (
        "This clearing was asked for until 2026-11-24T12:00:00+00:00, and nothing was cleared: ask again with "
        "`ghostwriter knowledge clear`."
    )
    with pytest.raises(OutdatedRequestError) as other:
        check_request(Request(NOW, any_version=False, version=6), 7, NOW)
    assert str(other.value) == (
        "This clearing was asked for at version 6 of the knowledge base, which is at 7 now, and nothing was cleared: "
        "look at `ghostwriter knowledge status` and ask again."
    )
