"""Which folder may be a stack's state folder, and which may be removed: one that a start made, or found empty.

It knows no component, and needs nothing but the standard library (`make secrets` runs before any install). A state
folder is whatever STATE_DIR names, and that can be mistyped: nobody's home, checkout or documents may go because of it.
"""

import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from os import getuid
from pathlib import Path

MARKER = ".ghostwriter"
MARKER_TEXT = "The state of a Ghostwriter stack. `make clean` removes this folder with all that is in it.\n"
OWN_NAMES = frozenset({
    "airflow", "demo-backup.json", "done", "ingest", "lineage", "llm", "lock", "logs", "mlflow", "postgres", "run",
    "secrets", "serving", "training", "weaviate",
})  # fmt: skip
"""What versions before the marker have put into a state folder."""
OWN_SECRETS = frozenset({"admin_password", "ledger_db_password", "postgres_password", "weaviate_api_key"})
"""All of these are in the `secrets` of every state folder, old and new."""
LITTER = frozenset({".DS_Store", "Thumbs.db", ".writable"})


@dataclass(frozen=True)
class Folders:
    """Absolute paths."""

    root: Path
    state_dir: Path
    cache_dir: Path
    content_dir: Path


class StateFolderError(ValueError):
    """The folder cannot be a state folder, or is not ours to remove; the message says why and what to do."""


def find_folders(values: Mapping[str, str], root: Path) -> Folders:
    """The folders that these settings name; relative paths are relative to the root."""

    def resolve(path: str | Path) -> Path:
        return (root / Path(path).expanduser()).resolve()

    return Folders(
        root=root,
        state_dir=resolve(values.get("STATE_DIR") or ".state"),
        cache_dir=resolve(values.get("GHOSTWRITER_CACHE_DIR") or Path.home() / ".cache" / "ghostwriter"),
        content_dir=resolve(values.get("GHOSTWRITER_CONTENT_DIR") or "content"),
    )


def check_usable(config: Folders) -> None:
    """Refuse to start in a protected folder, or in one that holds what is not ours; writes nothing."""
    folder = config.state_dir.resolve()
    if reason := _find_protection(config, folder):
        raise StateFolderError(
            f"STATE_DIR names {folder}, {reason}: set it to a folder of its own, like .state"
        )
    if folder.is_dir() and not is_ours(folder):
        raise StateFolderError(
            f"{folder} (STATE_DIR) holds what Ghostwriter did not put there ({_list_some(folder)}): "
            "set STATE_DIR to a new or empty folder, or move these elsewhere"
        )


def mark(config: Folders) -> None:
    """Make the folder ours; only after `check_usable`."""
    config.state_dir.mkdir(parents=True, exist_ok=True)
    (config.state_dir / MARKER).write_text(MARKER_TEXT, encoding="utf-8")


def check_removable(config: Folders) -> None:
    """Refuse to remove a protected folder, or one that no start made or found empty."""
    folder = config.state_dir.resolve()
    if reason := _find_protection(config, folder):
        raise StateFolderError(
            f"{folder} (STATE_DIR) is not removed: it is named by STATE_DIR, {reason}. Nothing was touched. "
            "To do: set STATE_DIR to the folder that `make up` was given"
        )
    if folder.is_dir() and not is_ours(folder):
        raise StateFolderError(
            f"{folder} (STATE_DIR) is not removed: it bears no mark of `make up` and holds what Ghostwriter did not "
            f"put there ({_list_some(folder)}). Nothing was touched. To do: set STATE_DIR to the folder that `make up` "
            "was given; if it is this one, move those elsewhere, or remove the folder yourself"
        )


def was_started(folder: Path) -> bool:
    """Whether a stack was started here once, whatever else lies here and whichever secret was taken away since."""
    secrets = folder / "secrets"
    return secrets.is_dir() and (
        (folder / MARKER).is_file() or any((secrets / name).is_file() for name in OWN_SECRETS)
    )


def is_ours(folder: Path) -> bool:
    """Whether the folder is marked, empty, or holds nothing but what an install or an earlier version put there."""
    if (folder / MARKER).is_file():
        return True
    names = _list_names(folder)
    if not names <= OWN_NAMES:
        return False
    # The log of an install may be older than the first start, and nothing else.
    logs = folder / "logs"
    only_installed = (
        names <= {"logs"}
        and not logs.is_file()
        and all(path.match("install-*.log") or path.name == "uv.log" for path in logs.glob("*"))
    )
    return only_installed or all((folder / "secrets" / name).is_file() for name in OWN_SECRETS)


def _find_protection(config: Folders, folder: Path) -> str:
    """Why this folder is never ours, in words that follow its name; empty where it may be."""
    homes = {Path.home().resolve(), Path(pwd.getpwuid(getuid()).pw_dir).resolve()}
    root, content, cache = (path.resolve() for path in (config.root, config.content_dir, config.cache_dir))
    if folder == Path(folder.anchor):
        return "the root of the file system"
    for home in homes:
        if home.is_relative_to(folder):
            return "your home" if home == folder else f"above your home {home}"
    if root.is_relative_to(folder):
        return "the repository" if root == folder else f"above the repository {root}"
    if content.is_relative_to(folder):
        return "the content" if content == folder else f"above the content {content}"
    if folder.is_relative_to(content):
        return f"in the content {content}"
    return "the cache" if folder == cache else ""


def _list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - LITTER


def _list_some(folder: Path) -> str:
    """The first foreign names, or the first of all where each could be ours."""
    names = _list_names(folder)
    shown = sorted(names - OWN_NAMES) or sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
