"""A stack's configuration in a temporary folder, with its secrets; and no process is ended but the test's own."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from stack.config import StackConfig, load_config
from stack.secrets import ensure_secrets

Configure = Callable[[str | Path], StackConfig]


@pytest.fixture
def stack_config(tmp_path: Path) -> StackConfig:
    config = load_config(
        {"STATE_DIR": str(tmp_path / "state"), "GHOSTWRITER_CACHE_DIR": str(tmp_path / "cache")}
    )
    ensure_secrets(config.secrets_dir)
    return config


@pytest.fixture(autouse=True)
def end_none_but_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in what is tested ends no process but those that this test started, however they were found."""
    mark = str(uuid4())
    monkeypatch.setenv("STARTED_BY_TEST", mark)

    def guard(name: str) -> None:
        end = getattr(psutil.Process, name)

        def end_own(process: psutil.Process) -> None:
            if process.environ().get("STARTED_BY_TEST") != mark:
                raise AssertionError(f"{process} is not the test's to {name}")
            end(process)

        monkeypatch.setattr(psutil.Process, name, end_own)

    guard("terminate")
    guard("kill")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a checkout, a cache and documents in it."""
    home = tmp_path / "people" / "me"
    for name in ("project/content/knowledge", "project/stack", ".cache/ghostwriter", "letters"):
        (home / name).mkdir(parents=True)
        (home / name / "precious").write_text("all I have")
    (home / "project" / "requirements").mkdir()
    for name in (
        "pyproject.toml",
        *(f"requirements/{lock}.txt" for lock in ("main", "llm", "trainer", "torch")),
    ):
        (home / "project" / name).touch()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def configure(machine: Path) -> Configure:
    def make(state_dir: str | Path) -> StackConfig:
        return load_config({"STATE_DIR": str(state_dir)}, root=machine / "project")

    return make


def list_files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
