"""The bundled Postgres: ready when it takes connections, and of the version that made its cluster."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from stack import postgres
from stack.config import load_config
from stack.declarations import declare
from stack.probes import is_ready
from stack.secrets import ensure_secrets
from stack.stamps import get_identity_file
from tests.postgres_server import PASSWORD, ROOT, Postgres, serve_postgres, wait_for


@pytest.fixture
def server() -> Iterator[Postgres]:
    with serve_postgres() as server:
        yield server


def connect(server: Postgres) -> "psycopg2.extensions.connection":
    return psycopg2.connect(server.dsn.replace("+psycopg2", ""), connect_timeout=5)


def kill_at_once(server: Postgres) -> None:
    assert server.process is not None
    family = [
        *psutil.Process(server.process.pid).children(recursive=True),
        psutil.Process(server.process.pid),
    ]
    for process in family:
        process.suspend()
    for process in family:
        process.kill()
    server.process.wait(10)
    psutil.wait_procs(family, timeout=10)


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_it_is_ready_only_when_it_takes_connections(server: Postgres) -> None:
    """Killed under load, it listens for as long as it recovers: here until a gate is opened."""
    config = load_config({"STATE_DIR": str(server.folder), "POSTGRES_PORT": str(server.port)})
    ensure_secrets(config.secrets_dir)
    probe = next(component.probe for component in declare(config) if component.name == "postgres")
    assert probe is not None and is_ready(probe)
    with closing(connect(server)) as connection:
        cursor = connection.cursor()
        cursor.execute("create table load (number int, text text)")
        connection.commit()
        cursor.execute("insert into load select n, repeat('x', 500) from generate_series(1, 20000) n")
        connection.commit()
        # In the middle of a transaction.
        cursor.execute("insert into load select n, repeat('y', 500) from generate_series(1, 20000) n")
        kill_at_once(server)
    assert not is_ready(probe)

    data, gate = server.folder / "postgres" / "data", server.folder / "gate"
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write("hot_standby = off\n")  # as after a crash: no reader before it is through
        file.write(f"restore_command = 'while [ ! -e {gate} ]; do sleep 0.05; done; false'\n")
    (data / "recovery.signal").touch()
    server.launch()
    try:
        wait_for(lambda: is_listening(server.port))
        with pytest.raises(psycopg2.OperationalError, match="starting up"):
            connect(server)
        assert not is_ready(probe)
    finally:
        gate.touch()
    wait_for(lambda: is_ready(probe))
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute("select count(*), min(text) = max(text) from load")
        assert cursor.fetchone() == (20000, True)


def make_cluster(server: Postgres, binaries: Path) -> None:
    """A cluster of that version in the place of the one that is there."""
    server.stop()
    data, account = server.folder / "postgres" / "data", postgres.find_account()
    shutil.rmtree(data)
    as_account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    password = server.folder / "password"
    password.write_text(PASSWORD)
    subprocess.run(
        [binaries / "initdb", "--pgdata", data, "--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256"],
        check=True, cwd="/", capture_output=True, timeout=120, **as_account,
    )  # fmt: skip


def list_bundled() -> dict[str, Path]:
    """Major version -> binaries, newest last."""
    found = {}
    for path in Path(postgres.find_binaries()).parent.parent.glob("pginstall*/bin"):
        words = subprocess.run(
            [path / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout.split()
        found[words[-1].split(".")[0]] = path
    return dict(sorted(found.items(), key=lambda item: int(item[0])))


def test_a_cluster_is_served_by_the_version_that_made_it(server: Postgres) -> None:
    oldest, binaries = next(iter(list_bundled().items()))
    assert len(list_bundled()) > 1, "nothing to choose from: this test would prove nothing"
    make_cluster(server, binaries)
    server.start()
    with closing(connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute("show server_version_num")
        assert cursor.fetchone()[0][:-4] == oldest


def test_a_cluster_of_a_version_that_is_not_bundled_says_what_to_do(server: Postgres) -> None:
    server.stop()
    version = server.folder / "postgres" / "data" / "PG_VERSION"
    version.write_text("9.6\n")
    assert server.launch().wait(30) == 1
    log = (server.folder / "log").read_text()
    assert "made by Postgres 9.6" in log and all(name in log for name in list_bundled())
    assert "pg_dumpall" in log and "make clean" in log and "Traceback" not in log
    assert version.is_file()


def test_a_new_cluster_is_of_the_newest(server: Postgres) -> None:
    newest = list(list_bundled())[-1]
    assert (server.folder / "postgres" / "data" / "PG_VERSION").read_text().strip() == newest


def note_databases(server: Postgres) -> dict[str, str]:
    """Name -> identity, after the step of each start that makes what is missing."""
    ensure_secrets(server.folder / "secrets")
    subprocess.run(
        [sys.executable, "-m", "stack.postgres", "databases", str(server.folder), str(server.port)],
        check=True, cwd=ROOT, capture_output=True, timeout=60,
    )  # fmt: skip
    return {name: get_identity_file(server.folder, name).read_text() for name in postgres.DATABASES}


def test_another_cluster_and_a_database_made_anew_are_told_apart(server: Postgres) -> None:
    first = note_databases(server)
    assert len(set(first.values())) == len(first)
    assert note_databases(server) == first
    with closing(connect(server)) as connection:
        connection.autocommit = True
        connection.cursor().execute("drop database mlflow")
    second = note_databases(server)
    assert {name for name in first if second[name] != first[name]} == {"mlflow"}
    server.stop()
    shutil.rmtree(server.folder / "postgres" / "data")
    server.start()
    third = note_databases(server)
    assert not set(third.values()) & (set(first.values()) | set(second.values()))


def test_an_older_mlflow_database_is_migrated_and_keeps_its_data(server: Postgres) -> None:
    note_databases(server)
    config = load_config({"STATE_DIR": str(server.folder), "POSTGRES_PORT": str(server.port)})
    step = next(component for component in declare(config) if component.name == "mlflow-migrate")
    url = step.env["MLFLOW_BACKEND_STORE_URI"]
    # One process for all of it: MLflow takes seconds to import.
    script = """
import subprocess, sys
from alembic import command
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import text
url, *migrate = sys.argv[1:]
engine = utils.create_sqlalchemy_engine(url)
def look():
    try:
        utils._verify_schema(engine)
    except MlflowException as error:
        return "out-of-date" if "out-of-date database schema" in str(error) else repr(error)
    with engine.connect() as connection:
        return connection.execute(text("select name from experiments where experiment_id = 7")).scalar()
Base.metadata.create_all(engine)
with engine.begin() as connection:  # as the first release with a model registry left it
    config = utils._get_alembic_config(url)
    config.attributes["connection"] = connection
    command.upgrade(config, "2b4d017a5e9b")
    insert = "insert into experiments (experiment_id, name, lifecycle_stage) values (7, 'mine', 'active')"
    connection.execute(text(insert))
print(look())
for _ in range(2):  # again, it changes nothing
    subprocess.run(migrate, check=True, stdout=sys.stderr)
    print(look())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, url, *step.command],
        cwd=ROOT, env={**os.environ, **step.env}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["out-of-date", "mine", "mine"]
