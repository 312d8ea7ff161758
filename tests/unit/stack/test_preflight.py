"""Checks before a start: taken ports, a full disk, and someone else at work."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import preflight
from stack.preflight import PreflightError


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_taken_port_is_told_with_its_setting_and_holder(taken_port: int) -> None:
    with pytest.raises(PreflightError, match=rf"{taken_port} \(LLM_PORT\).*pid {os.getpid()}"):
        preflight.check_ports({"LLM_PORT": taken_port})


def test_a_free_port_passes(taken_port: int) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    preflight.check_ports({"LLM_PORT": port})


def test_too_little_disk_or_memory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="STATE_DIR"):
        preflight.check_disk(tmp_path / "new", needed_gb=1e9)
    with pytest.raises(PreflightError, match="make up D=ingest"):
        preflight.check_memory(needed_gb=1e9)


def test_a_state_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(PreflightError, match="cannot be written"):
        preflight.check_folder(tmp_path / "state")


def test_one_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "lock"
    with (
        preflight.hold_lock(lock, "make up"),
        pytest.raises(PreflightError, match=rf"`make up` \(pid {os.getpid()}"),
        preflight.hold_lock(lock, "make down"),
    ):
        pass
    with preflight.hold_lock(lock, "make down"):
        assert "make down" in lock.read_text()
