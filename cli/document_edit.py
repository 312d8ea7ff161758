"""A document that is edited for a while and then put back, whatever happens in between.

It knows nothing of what the document is for; a killed process leaves a backup that the next one restores.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BACKUP_NAME = "demo-backup.json"


@contextmanager
def edit_document(path: Path, addition: bytes, state_dir: Path) -> Iterator[str]:
    """Append `addition` to a file for the length of the block; yields the sha256 of the edited bytes."""
    original = path.read_bytes()
    edited = original + addition
    digest = hashlib.sha256(edited).hexdigest()
    backup = state_dir / BACKUP_NAME
    record = {
        "path": str(path.resolve()),
        "edited_sha256": digest,
        "original": base64.b64encode(original).decode(),
    }
    _write_whole(backup, json.dumps(record).encode())
    try:
        _write_whole(path, edited)
        yield digest
    finally:
        restore_document(state_dir)


def restore_document(state_dir: Path) -> Path | None:
    """Put back what an earlier edit left changed; the file, or None where nothing was left.

    A file that someone changed since is theirs: it stays as it is.
    """
    backup = state_dir / BACKUP_NAME
    try:
        record = json.loads(backup.read_text())
    except FileNotFoundError:
        return None
    path = Path(record["path"])
    restored = None
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == record["edited_sha256"]:
        _write_whole(path, base64.b64decode(record["original"]))
        restored = path
    backup.unlink()
    return restored


def _write_whole(path: Path, content: bytes) -> None:
    # A reader, or a crash, sees the old file or the new one.
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    if path.exists():
        temporary.chmod(path.stat().st_mode & 0o777)
    temporary.replace(path)
