"""ONNX Runtime keeps the engines' contract and computes what torch does, each in its own environment."""

from pathlib import Path

import pytest

from tests.integration.check_run import LLM_PYTHON, TRAINER_PYTHON, needs, run_checks, run_module
from tests.unit.llm.engine_contract import CHECKS


@pytest.mark.timeout(820)
@pytest.mark.slow
@needs(LLM_PYTHON, TRAINER_PYTHON)
def test_onnx_over_the_packaged_models_and_tiny_ones(tmp_path: Path) -> None:
    run_module(TRAINER_PYTHON, "onnx_reference", tmp_path, seconds=400)
    assert CHECKS.keys() <= run_checks(LLM_PYTHON, "onnx_checks", tmp_path, seconds=400)
