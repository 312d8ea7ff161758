"""The ledger's migrations on a real Postgres: exactly the tables of the models, from any version, and back."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, select, text
from sqlalchemy.orm import Session

from shared.ledger.__main__ import build_alembic_config
from shared.ledger.models import Base, DocumentVersion, KnowledgeProblem, KnowledgeVersion
from tests.postgres_server import Postgres, serve_postgres

FIRST = "0001"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with serve_postgres() as server:
        yield server


@pytest.fixture
def config(postgres: Postgres) -> Iterator[Config]:
    config = build_alembic_config(postgres.dsn)
    yield config
    command.downgrade(config, "base")


@pytest.fixture
def ledger(postgres: Postgres) -> Iterator[Engine]:
    engine = create_engine(postgres.dsn)
    yield engine
    engine.dispose()


def test_the_newest_version_has_the_tables_of_the_models(config: Config, ledger: Engine) -> None:
    command.upgrade(config, "head")
    with ledger.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    command.upgrade(config, "head")


def test_a_ledger_of_the_first_version_is_upgraded_with_its_rows(config: Config, ledger: Engine) -> None:
    command.upgrade(config, FIRST)
    with Session(ledger) as session, session.begin():
        row = {
            "uri": "knowledge://guides/assets.md", "source": "guides", "title": "Assets", "content_hash": "h" * 64,
            "size": 9, "chunks": 1, "ingest_run": "scheduled__1", "ingested_at": datetime(2026, 11, 1, tzinfo=UTC),
        }  # fmt: skip
        columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
        session.execute(text(f"INSERT INTO document_versions ({columns}) VALUES ({values})"), row)
    command.upgrade(config, "head")
    with Session(ledger) as session, session.begin():
        assert session.scalars(select(DocumentVersion)).one().recipe == ""
        session.add(KnowledgeProblem(uri=f"knowledge://{'x' * 5000}", message="rename it", ingest_run="r"))


def test_times_are_in_utc_whatever_the_zone_of_the_server(config: Config, postgres: Postgres) -> None:
    command.upgrade(config, "head")
    elsewhere = create_engine(postgres.dsn, connect_args={"options": "-c timezone=Pacific/Auckland"})
    at = datetime(2026, 11, 24, 11, 30, tzinfo=UTC)
    row = {"digest": "d" * 64, "documents": 1, "chunks": 1, "ingest_run": "r"}
    with Session(elsewhere) as session, session.begin():
        session.add(KnowledgeVersion(**row, created_at=at))
    with Session(elsewhere) as session:
        found = session.scalars(select(KnowledgeVersion.created_at)).one()
    elsewhere.dispose()
    assert found.isoformat() == "2026-11-24T11:30:00+00:00"


def test_there_is_one_newest_version_and_a_way_back_from_it(config: Config, ledger: Engine) -> None:
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1
    command.upgrade(config, "head")
    command.downgrade(config, "base")
    assert inspect(ledger).get_table_names() == ["alembic_version"]
