"""An edited document comes back: after the block, after an error, after a kill; a person's own change stays."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from cli.document_edit import BACKUP_NAME, edit_document, restore_document


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "guide.md"
    path.write_bytes(b"# Guide\r\nText\n")
    path.chmod(0o640)
    return path


def test_edits_and_restores_bytes_and_mode(document: Path, tmp_path: Path) -> None:
    with edit_document(document, b"more", tmp_path / "state") as digest:
        assert document.read_bytes() == b"# Guide\r\nText\nmore"
        assert hashlib.sha256(document.read_bytes()).hexdigest() == digest
    assert document.read_bytes() == b"# Guide\r\nText\n"
    assert document.stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "state" / BACKUP_NAME).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["guide.md", "state"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_restores_when_stopped(document: Path, tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), edit_document(document, b"more", tmp_path / "state"):
        raise error
    assert document.read_bytes() == b"# Guide\r\nText\n"


def test_the_next_one_restores_after_a_kill(document: Path, tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from cli.document_edit import edit_document\n"
        "with edit_document(pathlib.Path(sys.argv[1]), b'more', pathlib.Path(sys.argv[2])): os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program, document, tmp_path / "state"], cwd=root, timeout=60)
    assert done.returncode == -9
    assert document.read_bytes().endswith(b"more")
    assert restore_document(tmp_path / "state") == document
    assert document.read_bytes() == b"# Guide\r\nText\n"
    assert restore_document(tmp_path / "state") is None


def test_a_change_by_someone_else_stays(document: Path, tmp_path: Path) -> None:
    with edit_document(document, b"more", tmp_path / "state"):
        document.write_bytes(b"mine")
    assert document.read_bytes() == b"mine"
