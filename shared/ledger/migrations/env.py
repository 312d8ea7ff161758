"""Alembic's environment for the ledger; called by `alembic.command`, knows only the URL it is given."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from shared.ledger.models import Base

MIGRATION_LOCK = 4_242_001  # two migrations at once wait for each other

config = context.config
url = config.get_main_option("sqlalchemy.url") or ""
engine = create_engine(url, poolclass=pool.NullPool, hide_parameters=True)
with engine.connect() as connection:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
