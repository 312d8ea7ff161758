"""Ledgers for tests on a real Postgres: one server a test process, a fresh database a test.

It knows no table. A module's conftest has two fixtures, `with serve_ledgers() as ledgers` for the session and
`with ledgers.make() as sessions` for a test.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from alembic import command
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.orm import Session, sessionmaker

from shared.ledger.__main__ import build_alembic_config
from shared.ledger.models import Base
from shared.ledger.sessions import create_sessions
from tests.postgres_server import serve_postgres

# Nothing here needs to survive a loss of power.
FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")
_numbers = count(1)


@dataclass(frozen=True)
class Ledgers:
    """A server with a template at the ledger's newest version."""

    dsn: str
    admin: Engine

    @contextmanager
    def make(self, template: str = "template_ledger") -> Iterator[sessionmaker[Session]]:
        """A ledger of its own, gone afterwards; `template` may be another database that nobody is connected to."""
        name = f"ledger_{next(_numbers)}"
        with self.admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy"))
        sessions = create_sessions(self.name(name))
        try:
            yield sessions
        finally:
            sessions.kw["bind"].dispose()
            with self.admin.connect() as connection:
                connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))

    @contextmanager
    def keep(self, name: str) -> Iterator[sessionmaker[Session]]:
        """A ledger that is a template afterwards; it goes with the server."""
        with self.admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE template_ledger STRATEGY file_copy"))
        sessions = create_sessions(self.name(name))
        try:
            yield sessions
        finally:
            sessions.kw["bind"].dispose()

    def name(self, database: str) -> str:
        """The URL of a database."""
        return make_url(self.dsn).set(database=database).render_as_string(hide_password=False)


def empty(sessions: sessionmaker[Session]) -> None:
    """As it was made, quicker than another one."""
    names = ", ".join(f'"{table.name}"' for table in Base.metadata.sorted_tables)
    with sessions.begin() as session:
        session.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))


@contextmanager
def serve_ledgers() -> Iterator[Ledgers]:
    """A server of this process, stopped at the end."""
    with serve_postgres() as server:
        admin = create_engine(server.dsn, isolation_level="AUTOCOMMIT")
        ledgers = Ledgers(server.dsn, admin)
        with admin.connect() as connection:
            for setting in FAST:
                connection.execute(text(f"ALTER SYSTEM SET {setting}"))
            connection.execute(text("SELECT pg_reload_conf()"))
            connection.execute(text("CREATE DATABASE template_ledger"))
        command.upgrade(build_alembic_config(ledgers.name("template_ledger")), "head")
        yield ledgers
        admin.dispose()
