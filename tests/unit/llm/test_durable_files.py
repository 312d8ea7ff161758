"""Converted weights appear whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.llm.durable_files import write_atomically


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "models" / "x.gguf"
    with write_atomically(target) as partial:
        partial.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole" and os.listdir(target.parent) == ["x.gguf"]


def test_a_failure_leaves_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    target = tmp_path / "x.gguf"
    target.write_bytes(b"before")

    def write_half() -> None:
        with write_atomically(target) as partial:
            partial.write_bytes(b"half")
            raise OSError("No space left on device")

    with pytest.raises(OSError):
        write_half()
    assert target.read_bytes() == b"before" and os.listdir(tmp_path) == ["x.gguf"]


def test_what_killed_processes_left_is_taken_away_and_a_running_ones_is_not(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    for pid in (dead.stdout.strip(), "1"):
        (tmp_path / f".x.gguf.{pid}").write_bytes(b"half")
    with write_atomically(tmp_path / "x.gguf") as partial:
        partial.write_bytes(b"whole")
    assert sorted(os.listdir(tmp_path)) == [".x.gguf.1", "x.gguf"]
