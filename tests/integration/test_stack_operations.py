"""Up, status, down and clean on a small real stack: one that another shell asks for, and one after a power cut.

Marquez, which only the shell of `make up` knows of, is a stand-in (a `java` that is a small HTTP server); Postgres and
supervisor are the real ones.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import psycopg2
import pytest

from stack.config import load_config
from stack.ports import DEFAULT_PORTS
from stack.supervisor import STACK_VARIABLE, Supervisor
from tests.postgres_server import ROOT, wait_for

# It takes its time to end, as Java does.
JAVA = """#!{python}
import os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
if "-version" in sys.argv:
    sys.exit('openjdk version "21"')
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
def end(*_):
    time.sleep(3)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
HTTPServer(("127.0.0.1", int(os.environ["MARQUEZ_PORT"])), Handler).serve_forever()
"""


@dataclass
class Shell:
    """Commands on one stack: `told` has the settings that `make up` gets, `untold` but the state folder."""

    folder: Path
    told: dict[str, str]
    untold: dict[str, str]

    def stack(self, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stack", *arguments],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=180, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def up(self) -> None:
        done = self.stack("up", "--only", "marquez", env=self.told)
        assert done.returncode == 0, done.stdout + done.stderr

    def list_processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(STACK_VARIABLE) == str(self.folder / "s")
                named = any(str(self.folder) in word for word in process.cmdline())
                if (marked or named) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def kill_at_once(processes: list[psutil.Process]) -> None:
    family = {member for process in processes for member in (process, *process.children(recursive=True))}
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.suspend()
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, timeout=10)


def is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def shell() -> Iterator[Shell]:
    # Not pytest's folder: as root Postgres runs as another user, and the path of supervisor's socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="gw")).resolve()
    folder.chmod(0o755)
    (folder / "marquez.jar").touch()
    (folder / "bin").mkdir()
    (folder / "bin" / "java").write_text(JAVA.format(python=sys.executable))
    (folder / "bin" / "java").chmod(0o755)
    offset = next(
        offset
        for offset in range(9000, 14000, 100)
        if all(is_free(port + offset) for port in DEFAULT_PORTS.values())
    )
    own = {"PATH", "LANG", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH"}
    untold = {name: value for name, value in os.environ.items() if name in own} | {
        "HOME": str(folder / "home"),
        "STATE_DIR": str(folder / "s"),
        "GHOSTWRITER_CACHE_DIR": str(folder / "cache"),
    }
    told = untold | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "MARQUEZ_JAR": str(folder / "marquez.jar"),
        "PORT_OFFSET": str(offset),
        "GHOSTWRITER_LLM_BASE_URL": "http://127.0.0.1:9/v1",
        "GHOSTWRITER_SKIP_CHECKS": "1",
    }
    shell = Shell(folder, told, untold)
    try:
        yield shell
    finally:
        shell.stack("down", env=told)
        for process in shell.list_processes():
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def test_another_shell_sees_and_stops_what_runs(shell: Shell) -> None:
    shell.up()
    url = f"http://127.0.0.1:{DEFAULT_PORTS['MARQUEZ_PORT'] + int(shell.told['PORT_OFFSET'])}"
    assert httpx.get(url, trust_env=False).status_code == 200

    rows = {
        line.split()[0]: line.split() for line in shell.stack("status", env=shell.untold).stdout.splitlines()
    }
    assert rows["marquez"][1] == "ready" and rows["marquez"][-1] == url
    assert rows["postgres"][1] == "ready"
    assert rows["llm"][1] == "external"
    info = {row["name"]: row for row in json.loads(shell.stack("info", env=shell.untold).stdout)}
    assert info["marquez"]["url"] == url and info["marquez"]["state"] == "ready"
    assert "BaseHTTP" not in shell.stack("logs", "marquez", env=shell.untold).stderr

    done = shell.stack("down", env=shell.untold)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "stopping marquez" in done.stdout
    assert shell.list_processes() == []
    # Stopped, it is told by the settings of today again.
    assert "no jar could be had" in shell.stack("status", env=shell.untold).stdout


def test_what_runs_without_any_record_is_stopped_too(shell: Shell) -> None:
    """As an earlier version started it."""
    shell.up()
    (shell.folder / "s" / "run" / "started.json").unlink(missing_ok=True)
    done = shell.stack("down", env=shell.untold)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert shell.list_processes() == []


def test_a_start_without_it_stops_it_and_says_so(shell: Shell) -> None:
    shell.up()
    without = {name: value for name, value in shell.told.items() if name != "MARQUEZ_JAR"}
    done = shell.stack("up", "--only", "postgres", env=without)
    assert done.returncode == 0, done.stderr
    assert "stopping marquez" in done.stdout
    assert not [process for process in shell.list_processes() if "java" in " ".join(process.cmdline())]
    assert "marquez                  unavailable" in shell.stack("status", env=shell.untold).stdout


@pytest.mark.parametrize("command", ["down", "status", "up"])
def test_a_stop_that_was_cut_is_waited_for(shell: Shell, command: str) -> None:
    """supervisor, told to end, answers everything with a fault for as long as its last process takes."""
    shell.up()
    Supervisor(load_config(shell.told)).shut_down(seconds=0)
    if command == "up":
        shell.up()
        assert "marquez                  ready" in shell.stack("status", env=shell.untold).stdout
    else:
        done = shell.stack(command, env=shell.untold)
        assert done.returncode == (0 if command == "down" else 3) and "Traceback" not in done.stderr, (
            done.stderr
        )
    done = shell.stack("down", env=shell.untold)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert shell.list_processes() == []


def test_clean_takes_what_runs_with_it(shell: Shell) -> None:
    shell.up()
    done = shell.stack("clean", env={**shell.untold, "YES": "1"})
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert shell.list_processes() == [] and not (shell.folder / "s").exists()


def test_the_first_start_after_a_power_cut_waits_for_the_database(shell: Shell) -> None:
    """All is killed at once; Postgres then listens for as long as it recovers: here until a gate is opened."""
    shell.up()
    config = load_config(shell.told)
    password = config.secret("ledger_db_password")
    dsn = f"postgresql://ledger:{password}@127.0.0.1:{config.ports['POSTGRES_PORT']}/ledger"
    with closing(psycopg2.connect(dsn)) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "create table load as select n, repeat('x', 500) as text from generate_series(1, 20000) n"
        )
        connection.commit()
        cursor.execute("update load set text = repeat('y', 500)")  # in the middle of a transaction
        kill_at_once(shell.list_processes())
    assert shell.list_processes() == []

    data, gate = config.state_dir / "postgres" / "data", shell.folder / "gate"
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write("hot_standby = off\n")  # as after a crash: no reader before it is through
        file.write(f"restore_command = 'while [ ! -e {gate} ]; do sleep 0.05; done; false'\n")
    (data / "recovery.signal").touch()
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(shell.stack, "up", "--only", "marquez", env=shell.told)
        wait_for(lambda: start.done() or not is_free(config.ports["POSTGRES_PORT"]), seconds=60)
        log = config.logs_dir / "postgres.log"
        # It has refused somebody: the probe, or whoever did not wait for it.
        wait_for(lambda: start.done() or "the database system is starting up" in log.read_text(), seconds=60)
        gate.touch()
        done = start.result(timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*), max(text) = repeat('x', 500) from load")
        assert cursor.fetchone() == (20000, True)
