"""What `stack/bootstrap.sh` installs, and when; a script stands in for uv, and another for the server's interpreter."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stack.config import ROOT

UV = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$1 $2" in
  "venv "*)
    folder=${!#}; mkdir -p "$folder/bin"
    printf '#!/usr/bin/env bash\\ncase "$*" in *engines.choice) echo "$SERVES" ;; esac\\n' >"$folder/bin/python"
    chmod +x "$folder/bin/python" ;;
  "--version ") echo uv 1.0 ;;
  "pip install") case "$*" in *--dry-run*) exit 1 ;; esac ;;
  "pip sync") case "$*" in *torch.txt*) exit "${TORCH_FAILS:-0}" ;; esac ;;
esac
"""
LOCKS = ("main", "llm", "trainer", "torch", "clients", "uv")


class Checkout:
    """A folder with the script, and what it made and called there."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, root / "calls"
        (root / "stack").mkdir()
        (root / "requirements").mkdir()
        shutil.copy(ROOT / "stack" / "bootstrap.sh", root / "stack")
        (root / "pyproject.toml").touch()
        for lock in LOCKS:
            (root / "requirements" / f"{lock}.txt").write_text(f"{lock}==1\n")
        uv = root / "bin" / "uv"
        uv.parent.mkdir()
        uv.write_text(UV)
        uv.chmod(0o755)

    def run(self, *parts: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        return subprocess.run(
            [self.root / "stack" / "bootstrap.sh", *parts],
            env={
                "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
                "HOME": str(self.root),
                "PYTHON": sys.executable,
                "CALLS": str(self.calls),
                "SERVES": "llama_cpp",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def synced(self) -> list[str]:
        """The lock files that were installed, in order."""
        lines = [line for line in self.calls.read_text().splitlines() if line.startswith("pip sync")]
        return [
            word.removeprefix("requirements/") for line in lines for word in line.split() if ".txt" in word
        ]

    def has(self, path: str) -> bool:
        return (self.root / path).exists()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_post_waits_for_no_torch(checkout: Checkout) -> None:
    assert checkout.run("main", "llm").returncode == 0
    assert sorted(checkout.synced) == ["llm.txt", "main.txt"]
    assert not checkout.has(".venv-trainer")
    assert checkout.run("main", "llm").returncode == 0
    assert checkout.synced == []


def test_where_torch_serves_it_comes_first(checkout: Checkout) -> None:
    assert checkout.run("llm", SERVES="torch").returncode == 0
    assert checkout.synced == ["llm.txt", "trainer.txt", "torch.txt"]


def test_an_environment_is_renewed_when_its_lock_changes_and_no_other_is(checkout: Checkout) -> None:
    every = ("main", "llm", "trainer", "clients")
    assert checkout.run(*every).returncode == 0
    (checkout.root / "requirements" / "clients.txt").write_text("clients==2\n")
    assert checkout.run(*every).returncode == 0
    assert checkout.synced == ["clients.txt"]


def test_no_job_starts_in_an_environment_that_is_being_made_or_is_out_of_date(checkout: Checkout) -> None:
    mark = ".venv-trainer/.installing"
    failed = checkout.run("trainer", TORCH_FAILS="1")
    assert failed.returncode == 1
    assert "fine-tuning waits" in failed.stderr
    assert checkout.has(mark)
    assert checkout.run("trainer").returncode == 0
    assert not checkout.has(mark)
    (checkout.root / "requirements" / "trainer.txt").write_text("trainer==2\n")
    assert checkout.run("main", "llm").returncode == 0
    assert checkout.has(mark)
    assert checkout.run("trainer").returncode == 0
    assert not checkout.has(mark)


def test_an_unknown_part_is_named(checkout: Checkout) -> None:
    refused = checkout.run("torch")
    assert refused.returncode == 1
    assert "unknown part: torch" in refused.stderr
