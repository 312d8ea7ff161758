"""What Postgres and its driver say of a failing statement, through the ledger's own engine."""

import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from shared.ledger.models import DocumentVersion
from tests.postgres_server import serve_ledger

ROW = {
    "uri": "knowledge://guides/secret-name.md", "source": "guides", "title": "Secret title", "content_hash": "h" * 64,
    "size": 9, "chunks": 1, "ingest_run": "manual__1",
}  # fmt: skip


@pytest.fixture(scope="module")
def sessions() -> Iterator[sessionmaker[Session]]:
    with serve_ledger() as sessions:
        yield sessions


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{}, {}], "current_document"),  # DETAIL: Key (uri)=(…) already exists
        ([{"ingest_run": None}], 'null value in column "ingest_run"'),  # DETAIL: Failing row contains (…)
        ([{"size": "Secret size"}], "invalid input syntax for type integer"),  # in the message, and in LINE 1
        ([{"content_hash": "Secret " * 20}], "value too long"),
    ],
)
def test_a_failing_insert_does_not_say_what_it_would_have_written(
    sessions: sessionmaker[Session], rows: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(SQLAlchemyError) as caught, sessions.begin() as session:
        session.add_all(DocumentVersion(**{**ROW, **change}) for change in rows)
    text = "".join(traceback.format_exception(caught.value))
    assert said in text and "INSERT INTO document_versions" in text
    assert "secret" not in text.lower().replace("secret_", "")
