"""Checks that run under another environment's interpreter over a folder, and print their outcomes as JSON."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LLM_PYTHON = ROOT / ".venv-llm" / "bin" / "python"
TRAINER_PYTHON = ROOT / ".venv-trainer" / "bin" / "python"


def needs(*pythons: Path) -> pytest.MarkDecorator:
    """Skips where an environment is missing."""
    missing = [python.parents[1].name for python in pythons if not python.exists()]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)}: `make install` makes it")


def run_module(
    python: Path, name: str, folder: Path, *, seconds: float, environment: Mapping[str, str] | None = None
) -> str:
    """What a module of the unit tests' folder prints when it is run over a folder."""
    done = subprocess.run(
        [python, "-m", f"tests.unit.llm.{name}", folder],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def run_checks(
    python: Path, name: str, folder: Path, *, seconds: float, environment: Mapping[str, str] | None = None
) -> set[str]:
    """The names of a module's checks, none of which failed."""
    printed = run_module(python, name, folder, seconds=seconds, environment=environment)
    outcomes: dict[str, str] = json.loads(printed.splitlines()[-1])
    failures = {check: failure for check, failure in outcomes.items() if failure}
    assert not failures, "\n".join(f"{check}: {failure}" for check, failure in failures.items())
    return set(outcomes)
