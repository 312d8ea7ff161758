"""Which engine serves where, and which interpreter the server runs under."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from deployments.llm.engines.choice import Machine, NoEngineError, choose_chat_engine
from deployments.llm.trainer_environment import (
    UNFINISHED,
    TorchMissingError,
    explain_gap,
    find_other_interpreter,
)

OLD_CPU = "this CPU has no AVX2"
GAP = "there is no .venv-trainer"


@pytest.mark.parametrize(
    ("machine", "engine", "reason"),
    [
        (Machine(), "llama_cpp", "no CUDA GPU"),
        (Machine(has_cuda=True), "torch", "CUDA GPU"),
        (Machine(has_cuda=True, torch_gap=GAP), "llama_cpp", GAP),
        (Machine(has_metal=True), "llama_cpp", "Metal"),
        (Machine(llama_cpp_obstacle=OLD_CPU), "torch", OLD_CPU),
        # Without either there is still only torch to ask for; the start says what is missing.
        (Machine(llama_cpp_obstacle=OLD_CPU, torch_gap=GAP), "torch", OLD_CPU),
    ],
)
def test_auto(machine: Machine, engine: str, reason: str) -> None:
    choice = choose_chat_engine("auto", machine)
    assert choice.engine == engine
    assert reason in choice.reason


@pytest.mark.parametrize("wanted", ["llama_cpp", "torch"])
def test_a_setting_outweighs_what_the_machine_has(wanted: Literal["llama_cpp", "torch"]) -> None:
    for machine in (Machine(has_cuda=True), Machine(torch_gap=GAP)):
        assert choose_chat_engine(wanted, machine).engine == wanted


def test_llama_cpp_is_refused_where_it_would_kill_the_process() -> None:
    with pytest.raises(NoEngineError, match=OLD_CPU):
        choose_chat_engine("llama_cpp", Machine(llama_cpp_obstacle=OLD_CPU))


@pytest.fixture
def trainer(tmp_path: Path) -> Path:
    python = tmp_path / "trainer" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return python


def test_an_environment_counts_once_it_is_complete(trainer: Path) -> None:
    assert explain_gap(trainer) is None
    mark = trainer.parent.parent / UNFINISHED
    mark.touch()
    assert "not installed completely" in str(explain_gap(trainer))
    mark.unlink()
    trainer.unlink()
    assert "make up" in str(explain_gap(trainer))


def test_the_server_goes_on_under_the_interpreter_that_has_torch(trainer: Path) -> None:
    here = Path(sys.executable)
    assert find_other_interpreter(has_torch=False, current=here, trainer=trainer) == trainer
    assert find_other_interpreter(has_torch=True, current=here, trainer=trainer) is None


def test_the_server_changes_its_interpreter_once_at_most(trainer: Path) -> None:
    with pytest.raises(TorchMissingError, match="requirements/trainer"):
        find_other_interpreter(has_torch=False, current=trainer, trainer=trainer)


def test_an_interpreter_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(TorchMissingError, match="make up"):
        find_other_interpreter(has_torch=False, current=Path(sys.executable), trainer=tmp_path / "python")


def test_a_server_that_needs_torch_and_has_none_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "llm_api_key").write_text("a-key")
    environment = {
        **os.environ,
        "GHOSTWRITER_SECRETS_DIR": str(tmp_path),
        "GHOSTWRITER_STATE_DIR": str(tmp_path),
        "GHOSTWRITER_LLM_CHAT_ENGINE": "torch",
        "GHOSTWRITER_LLM_TRAINER_PYTHON": str(tmp_path / "python"),
    }
    command = [sys.executable, "-m", "deployments.llm"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "llm: torch is needed, and there is no" in done.stderr
    assert "Traceback" not in done.stderr
