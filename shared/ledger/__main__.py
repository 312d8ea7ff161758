"""`python -m shared.ledger migrate`: brings the ledger's tables to the newest version.

It knows no table; Alembic's migrations do.
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

from shared.settings import get_settings


def build_alembic_config(dsn: str) -> Config:
    """Alembic's configuration without a file; `%` is doubled because Alembic interpolates."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("sqlalchemy.url", dsn.replace("%", "%%"))
    return config


def main() -> None:
    """Migrate to the newest version, or make a revision from the models (`revision MESSAGE`, for developers)."""
    config = build_alembic_config(get_settings().ledger_dsn)
    match sys.argv[1:]:
        case ["migrate"]:
            command.upgrade(config, "head")
            print("ledger: at the newest version")
        case ["revision", message]:
            command.revision(config, message, autogenerate=True)
        case _:
            sys.exit("usage: python -m shared.ledger migrate | revision MESSAGE")


if __name__ == "__main__":
    main()
