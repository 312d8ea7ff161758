"""The torch engine and the trainer keep their contracts, over tiny models in the environment of torch."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.llm.engine_contract import CHECKS

ROOT = Path(__file__).resolve().parents[2]
TRAINER_PYTHON = ROOT / ".venv-trainer" / "bin" / "python"
needs_torch = pytest.mark.skipif(
    not TRAINER_PYTHON.exists(), reason="no .venv-trainer: `make install` makes it"
)


@needs_torch
@pytest.mark.timeout(200)
def test_torch_over_tiny_models(tmp_path: Path) -> None:
    assert CHECKS.keys() <= run_checks("torch_engine_checks", tmp_path).keys()


@needs_torch
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_training_of_tiny_models(tmp_path: Path) -> None:
    assert run_checks("training_checks", tmp_path)


def run_checks(module: str, folder: Path) -> dict[str, str]:
    """What the checks say, none of which failed."""
    done = subprocess.run(
        [TRAINER_PYTHON, "-m", f"tests.unit.llm.{module}", folder],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=190,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes: dict[str, str] = json.loads(done.stdout)
    failures = {name: failure for name, failure in outcomes.items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
    return outcomes
