"""Every engine keeps the port's contract: the fake here, torch in the LLM server's own environment."""

import json
import subprocess
from pathlib import Path

import pytest

from deployments.llm.engine.fake import FakeEngine
from tests.unit.llm.engine_contract import CHECKS, CONTEXT, DEFAULT_MAX_TOKENS, Subject

ROOT = Path(__file__).resolve().parents[3]
LLM_PYTHON = ROOT / ".venv-llm" / "bin" / "python"
TIMEOUT = 110


@pytest.mark.parametrize("name", CHECKS)
def test_the_fake(name: str, tmp_path: Path) -> None:
    engine = FakeEngine(context=CONTEXT, default_max_tokens=DEFAULT_MAX_TOKENS)
    engine.load()
    CHECKS[name](Subject(engine, tmp_path))


@pytest.mark.skipif(not LLM_PYTHON.exists(), reason="no .venv-llm: `make install` makes it")
def test_torch_over_tiny_models(tmp_path: Path) -> None:
    done = subprocess.run(
        [LLM_PYTHON, "-m", "tests.unit.llm.torch_engine_checks", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes = json.loads(done.stdout)
    assert CHECKS.keys() <= outcomes.keys()
    failures = {name: failure for name, failure in outcomes.items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
