"""The torch engine keeps the engine's contract, over tiny models in the environment of torch."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.llm.engine_contract import CHECKS

ROOT = Path(__file__).resolve().parents[2]
TRAINER_PYTHON = ROOT / ".venv-trainer" / "bin" / "python"


@pytest.mark.skipif(not TRAINER_PYTHON.exists(), reason="no .venv-trainer")
def test_torch_over_tiny_models(tmp_path: Path) -> None:
    done = subprocess.run(
        [TRAINER_PYTHON, "-m", "tests.unit.llm.torch_engine_checks", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes = json.loads(done.stdout)
    assert CHECKS.keys() <= outcomes.keys()
    failures = {name: failure for name, failure in outcomes.items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
