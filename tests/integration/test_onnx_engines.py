"""ONNX Runtime keeps the engines' contract and computes what torch does, each in its own environment."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.llm.engine_contract import CHECKS

ROOT = Path(__file__).resolve().parents[2]
LLM_PYTHON = ROOT / ".venv-llm" / "bin" / "python"
TRAINER_PYTHON = ROOT / ".venv-trainer" / "bin" / "python"


def run(python: Path, module: str, folder: Path) -> str:
    """What the module prints."""
    done = subprocess.run(
        [python, "-m", module, folder], cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(820)
@pytest.mark.slow
@pytest.mark.skipif(
    not (LLM_PYTHON.exists() and TRAINER_PYTHON.exists()),
    reason="no .venv-llm or no .venv-trainer: `make install` makes them",
)
def test_onnx_over_the_packaged_models_and_tiny_ones(tmp_path: Path) -> None:
    run(TRAINER_PYTHON, "tests.unit.llm.onnx_reference", tmp_path)
    outcomes = json.loads(run(LLM_PYTHON, "tests.unit.llm.onnx_checks", tmp_path))
    assert CHECKS.keys() <= outcomes.keys()
    failures = {name: failure for name, failure in outcomes.items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
