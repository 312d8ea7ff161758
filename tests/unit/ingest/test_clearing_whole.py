"""A clearing of the whole: the store is empty, the ledger keeps the history, and what waited is not done twice."""

from datetime import timedelta

from sqlalchemy import select

from deployments.ingest import ledger, tasks
from deployments.ingest.clearing import Request
from shared.ledger.models import DocumentVersion, KnowledgeVersion, PendingWrite, utc_now
from tests.ingest import Deployment


def make_request() -> Request:
    return Request(utc_now() + timedelta(hours=1))


def test_a_clearing_empties_the_store_keeps_the_history_and_works_once(deployment: Deployment) -> None:
    deployment.shelf.put("knowledge://guides/a.md", "# A\n\none\n\ntwo")
    deployment.sync()
    assert tasks.clear(deployment.ingest, "clear", make_request()) == 1
    assert not deployment.store.collection_exists()
    assert tasks.clear(deployment.ingest, "clear", make_request()) == 0, "a try that was killed at its end"
    with deployment.sessions() as session:
        assert ledger.count_current(session) == (0, 0)
        (row,) = session.scalars(select(DocumentVersion)).all()
        assert row.superseded_by_run == "clear"
        versions = session.scalars(select(KnowledgeVersion).order_by(KnowledgeVersion.id)).all()
        assert [version.documents for version in versions] == [1, 0]
        assert session.scalars(select(PendingWrite)).all() == []
    asked = len(deployment.llm.requests)
    deployment.sync()
    assert deployment.store.count() == 2 and len(deployment.llm.requests) == asked, "vectors are known"


def test_a_clearing_before_the_first_ingestion_has_nothing_to_do(deployment: Deployment) -> None:
    assert tasks.clear(deployment.ingest, "clear", make_request()) == 0
