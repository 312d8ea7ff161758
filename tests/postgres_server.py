"""A real Postgres of a test's own, which can go away and come back.

It knows no table.
"""

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from alembic import command
from sqlalchemy.orm import Session, sessionmaker

from shared.ledger.__main__ import build_alembic_config
from shared.ledger.sessions import create_sessions

ROOT = Path(__file__).parents[1]
PASSWORD = "only-for-this-test"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


class Postgres:
    """A server of its own, which can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.dsn = f"postgresql+psycopg2://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.launch()
        wait_for(self._answers)

    def launch(self) -> "subprocess.Popen[bytes]":
        """Start it and wait for nothing."""
        (self.folder / "secrets").mkdir(exist_ok=True)
        (self.folder / "secrets" / "postgres_password").write_text(PASSWORD)
        command = [sys.executable, "-m", "stack.postgres", "serve", str(self.folder), str(self.port)]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        return self.process

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGINT)  # fast shutdown
            self.process.wait(20)
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()
        try:
            psycopg2.connect(self.dsn.replace("+psycopg2", ""), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True


@contextmanager
def serve_postgres() -> Iterator[Postgres]:
    """A started server; its data goes with it."""
    # Not pytest's folder: as root the server runs as another user, who may not look into that one.
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    folder.chmod(0o755)
    server = Postgres(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def serve_ledger() -> Iterator[sessionmaker[Session]]:
    """A ledger at its newest version, on a server of its own."""
    with serve_postgres() as server:
        command.upgrade(build_alembic_config(server.dsn), "head")
        sessions = create_sessions(server.dsn)
        yield sessions
        sessions.kw["bind"].dispose()
