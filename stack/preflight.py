"""What must hold before anything starts: free ports, enough memory and disk, and nobody else at work.

It knows no component but the ports it is given.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

NEEDED_MEMORY_GB = 3.0
NEEDED_DISK_GB = 2.0
GIGABYTE = 1e9


class PreflightError(RuntimeError):
    """The start cannot go ahead; the message says why and what to do."""


@dataclass(frozen=True)
class TakenPort:
    """A port that someone else listens on."""

    setting: str
    port: int
    holder: str

    def __str__(self) -> str:
        return f"port {self.port} ({self.setting}) is taken by {self.holder}"


def find_taken_ports(ports: Mapping[str, int]) -> list[TakenPort]:
    """Those of the ports that cannot be bound, with who holds them where the machine tells."""
    return [
        TakenPort(setting, port, find_holder(port)) for setting, port in ports.items() if not is_free(port)
    ]


def is_free(port: int) -> bool:
    """Whether a server could bind the port now."""
    for host in ("127.0.0.1", "0.0.0.0"):  # noqa: S104 - a look, closed at once
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError:
                return False
    return True


def find_holder(port: int) -> str:
    """Name and pid of the process that listens there, or what can be said instead."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.pid
                and getattr(connection.laddr, "port", 0) == port
            ):
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return "another process"


def check_ports(ports: Mapping[str, int]) -> None:
    """Refuse to start while a port is taken: a foreign server could pass for ours."""
    taken = find_taken_ports(ports)
    if taken:
        lines = [f"{one}: set {one.setting} to a free port" for one in taken]
        raise PreflightError(
            "\n".join(lines)
            + "\n(in the environment or in .env; PORT_OFFSET=100 moves all ports; nothing was started)"
        )


def check_memory(needed_gb: float = NEEDED_MEMORY_GB) -> None:
    """Refuse to start where the whole stack would be killed for memory."""
    available = psutil.virtual_memory().available / GIGABYTE
    if available < needed_gb:
        raise PreflightError(
            f"{available:.1f} GB of memory is free and about {needed_gb:.0f} GB is needed: close something, or start "
            "one deployment alone (make up D=ingest), or set GHOSTWRITER_SKIP_CHECKS=1 to try anyway"
        )


def check_disk(folder: Path, needed_gb: float = NEEDED_DISK_GB) -> None:
    """Refuse to start on a full disk: databases end badly there."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIGABYTE
    if free < needed_gb:
        raise PreflightError(
            f"{free:.1f} GB of disk is free at {existing} and {needed_gb:.0f} GB is needed: free some, or set "
            "STATE_DIR to a folder on another disk, or set GHOSTWRITER_SKIP_CHECKS=1 to try anyway"
        )


def check_folder(folder: Path) -> None:
    """Refuse to start where the state folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except OSError as error:
        raise PreflightError(
            f"{folder} cannot be written ({error.strerror}): set STATE_DIR to another folder"
        ) from error


@contextlib.contextmanager
def hold_lock(path: Path, what: str) -> Iterator[None]:
    """One start or stop at a time; the kernel releases the lock with its process, so it cannot go stale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise PreflightError(
                f"{holder} is at work on this stack: wait for it to end, or stop it with Ctrl-C there"
            ) from None
        file.truncate(0)
        file.write(f"`{what}` (pid {os.getpid()}, since {time.strftime('%H:%M:%S', time.gmtime())} UTC)")
        file.flush()
        yield
