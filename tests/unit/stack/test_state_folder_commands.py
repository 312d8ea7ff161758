"""`make clean`, `make secrets` and an install look at the state folder before they touch anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.config import load_config
from tests.unit.stack.conftest import list_files

REPOSITORY = Path(__file__).resolve().parents[3]


def test_make_clean_refuses_before_it_asks(machine: Path) -> None:
    environment = {**os.environ, "STATE_DIR": str(machine / "letters")}
    environment.pop("YES", None)
    done = subprocess.run(
        [sys.executable, "-m", "stack", "clean"],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1 and "[y/N]" not in done.stdout
    assert "precious" in done.stderr and "Traceback" not in done.stderr


def make_secrets(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make secrets` in a checkout beside which nothing is installed."""
    for name in ("stack", "shared"):
        (project / name).mkdir(exist_ok=True)
        for path in (REPOSITORY / name).glob("*.py"):
            (project / name / path.name).write_text(path.read_text("utf-8"), "utf-8")
    (project / "Makefile").write_text((REPOSITORY / "Makefile").read_text("utf-8"), "utf-8")
    return subprocess.run(
        ["make", "secrets", f"PYTHON={sys.base_prefix}/bin/python3 -S -B"],
        cwd=project, env={"PATH": os.environ["PATH"], "HOME": str(project.parent), **environment},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("state_dir", ["~/letters", "~", "..", "content", "stack"])
def test_secrets_are_made_in_no_folder_of_someone_elses(machine: Path, state_dir: str) -> None:
    done = make_secrets(machine / "project", STATE_DIR=state_dir)
    assert done.returncode != 0 and "STATE_DIR" in done.stderr and "Traceback" not in done.stderr
    assert not list(machine.rglob("admin_password"))


@pytest.mark.parametrize(
    ("environment", "env_file", "folder"),
    [
        ({}, "", "project/.state"),
        ({"STATE_DIR": "~/ghost"}, "", "ghost"),
        ({"STATE_DIR": "../ghost"}, "STATE_DIR=other", "ghost"),
        ({}, "# mine\nPORT_OFFSET=1\nexport STATE_DIR = '~/ghost' # here\n", "ghost"),
    ],
)
def test_secrets_are_made_where_a_start_looks_for_them(
    machine: Path, environment: dict[str, str], env_file: str, folder: str
) -> None:
    (machine / "project" / ".env").write_text(env_file)
    for _ in range(2):
        done = make_secrets(machine / "project", **environment)
        assert done.returncode == 0, done.stderr
    config = load_config(environment, root=machine / "project")
    assert config.state_dir == machine / folder
    assert config.secret("admin_password")
    assert list(machine.rglob("admin_password")) == [config.admin_password_file]
    assert not list(machine.rglob("~"))


def test_an_install_writes_no_log_into_a_foreign_folder(machine: Path) -> None:
    """`make up` installs before it looks; what it would refuse to work in gets not even a log."""
    project, letters = machine / "project", machine / "letters"
    script = (REPOSITORY / "stack" / "bootstrap.sh").read_text()
    (project / "stack" / "bootstrap.sh").write_text(script)
    (project / "pyproject.toml").touch()
    before = list_files(letters)
    # No Python: it ends where it would begin to install.
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(machine), "STATE_DIR": str(letters), "PYTHON": "none"}
    fakes = machine / "fakes"
    fakes.mkdir()
    for name in ("python3.12", "python3.11", "python3.13", "python3", "python"):
        (fakes / name).write_text("#!/bin/sh\nexit 1\n")
        (fakes / name).chmod(0o755)
    environment["PATH"] = f"{fakes}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", project / "stack" / "bootstrap.sh", "main"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "Python 3.11" in done.stderr
    assert list_files(letters) == before
    subprocess.run(
        ["bash", project / "stack" / "bootstrap.sh", "main"],
        env={**environment, "STATE_DIR": "~/tidy"}, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (machine / "tidy" / "logs").is_dir() and not (project / "~").exists()
