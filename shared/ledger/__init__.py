"""The ledger: SQLAlchemy models, sessions and Alembic migrations over one Postgres database.

It knows no rule of any room; each room keeps its own queries.
"""
