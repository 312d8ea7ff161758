"""llama.cpp keeps the engine's contract, over tiny models in the LLM server's own environment."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.unit.llm.engine_contract import CHECKS

ROOT = Path(__file__).resolve().parents[2]
LLM_PYTHON = ROOT / ".venv-llm" / "bin" / "python"


@pytest.mark.skipif(not LLM_PYTHON.exists(), reason="no .venv-llm: `make install` makes it")
def test_llama_cpp_over_tiny_models(tmp_path: Path) -> None:
    done = subprocess.run(
        [LLM_PYTHON, "-m", "tests.unit.llm.llama_cpp_checks", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert CHECKS.keys() <= outcomes.keys()
    failures = {name: failure for name, failure in outcomes.items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
