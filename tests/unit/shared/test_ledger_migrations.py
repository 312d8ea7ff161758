"""The ledger's migrations are one chain: with two ends, no start could migrate any ledger."""

from alembic.script import ScriptDirectory

from shared.ledger.__main__ import build_alembic_config


def test_the_migrations_have_one_end_and_come_in_the_order_of_their_numbers() -> None:
    script = ScriptDirectory.from_config(build_alembic_config("postgresql://"))
    assert len(script.get_heads()) == 1
    chain = [revision.revision for revision in script.walk_revisions()]
    assert chain == sorted(chain, reverse=True)
