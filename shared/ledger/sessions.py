"""Engines and sessions for the ledger.

It knows nothing of what is stored.
"""

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker


def create_ledger_engine(dsn: str) -> Engine:
    """A small pool that survives a restart of Postgres; connecting waits at most 10 s, a statement at most 60 s."""
    if dsn.startswith("sqlite"):
        return create_engine(dsn)
    return create_engine(
        dsn,
        pool_size=4,
        max_overflow=8,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "options": "-c statement_timeout=60000"},
    )


def create_sessions(dsn: str) -> sessionmaker[Session]:
    """A session factory: `with sessions.begin() as session:` commits, or rolls back on an error."""
    return sessionmaker(create_ledger_engine(dsn), expire_on_commit=False)
