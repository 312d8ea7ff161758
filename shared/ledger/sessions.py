"""Engines and sessions for the ledger.

It knows nothing of what is stored.
"""

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import Session, sessionmaker

from shared.ledger.errors import cut_values


def create_ledger_engine(dsn: str) -> Engine:
    """A small pool that survives a restart of Postgres; connecting waits at most 10 s, a statement at most 60 s.

    Its errors say which statement failed and why, not with which values: they end in logs.
    """
    if dsn.startswith("sqlite"):
        engine = create_engine(dsn, hide_parameters=True)
    else:
        engine = create_engine(
            dsn,
            hide_parameters=True,
            pool_size=4,
            max_overflow=8,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10, "options": "-c statement_timeout=60000"},
        )
    event.listen(engine, "handle_error", _cut_values)
    return engine


def create_sessions(dsn: str) -> sessionmaker[Session]:
    """A session factory: `with sessions.begin() as session:` commits, or rolls back on an error."""
    return sessionmaker(create_ledger_engine(dsn), expire_on_commit=False)


def _cut_values(context: ExceptionContext) -> None:
    """Postgres quotes whole rows in its own messages, whatever SQLAlchemy hides."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None:
            error.args = tuple(cut_values(part) if isinstance(part, str) else part for part in error.args)
