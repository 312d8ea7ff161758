"""llama.cpp keeps the engine's contract, over tiny models in the LLM server's own environment."""

from pathlib import Path

from tests.integration.check_run import LLM_PYTHON, needs, run_checks
from tests.unit.llm.engine_contract import CHECKS


@needs(LLM_PYTHON)
def test_llama_cpp_over_tiny_models(tmp_path: Path) -> None:
    assert CHECKS.keys() <= run_checks(LLM_PYTHON, "llama_cpp_checks", tmp_path, seconds=110)
