"""What was done once, and to which database: what was done to a database that is gone counts for nothing.

It knows neither the steps nor a table. A step with a database has its stamp in a folder of that database's identity.
"""

from pathlib import Path

NOWHERE = "no-database"


def get_identity_file(state_dir: Path, database: str) -> Path:
    """Where each start notes which database bears this name now."""
    return state_dir / "run" / "databases" / database


def write_identity(state_dir: Path, database: str, identity: str) -> None:
    """Note the identity of a database; it is also the name of a folder."""
    path = get_identity_file(state_dir, database)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(identity, encoding="utf-8")


def get_stamp(state_dir: Path, name: str, database: str = "") -> Path:
    """The file that says that `name` was done (to this database, where one is named); its folder is made."""
    folder = state_dir / "done"
    if database:
        path = get_identity_file(state_dir, database)
        folder /= path.read_text(encoding="utf-8") if path.is_file() else NOWHERE
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def adopt(state_dir: Path, name: str, database: str) -> Path:
    """Like `get_stamp`; a stamp of an earlier version, which named no database, is taken to be of this one."""
    stamp, old = get_stamp(state_dir, name, database), get_stamp(state_dir, name)
    if old.is_file() and not stamp.is_file():
        old.replace(stamp)
    return stamp
