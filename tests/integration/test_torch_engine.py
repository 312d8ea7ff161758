"""The torch engine and the trainer keep their contracts, over tiny models in the environment of torch."""

from pathlib import Path

import pytest

from tests.integration.check_run import TRAINER_PYTHON, needs, run_checks
from tests.unit.llm.engine_contract import CHECKS

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@needs(TRAINER_PYTHON)
@pytest.mark.timeout(200)
def test_torch_over_tiny_models(tmp_path: Path) -> None:
    names = run_checks(TRAINER_PYTHON, "torch_engine_checks", tmp_path, seconds=190, environment=ONE_THREAD)
    assert CHECKS.keys() <= names


@needs(TRAINER_PYTHON)
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_training_of_tiny_models(tmp_path: Path) -> None:
    assert run_checks(TRAINER_PYTHON, "training_checks", tmp_path, seconds=190, environment=ONE_THREAD)
