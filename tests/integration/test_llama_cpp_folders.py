"""Folders in Hugging Face's format become GGUF files that answer as transformers does, adapters included."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAINER_PYTHON = ROOT / ".venv-trainer" / "bin" / "python"


@pytest.mark.skipif(not TRAINER_PYTHON.exists(), reason="no .venv-trainer: `make install` makes it")
def test_tiny_folders_of_each_kind(tmp_path: Path) -> None:
    done = subprocess.run(
        [TRAINER_PYTHON, "-m", "tests.unit.llm.llama_cpp_folder_checks", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert outcomes.keys() >= {"llama", "qwen2", "qwen3", "odd"}
    failures = {name: failure for name, failure in outcomes.items() if failure}
    assert not failures, "\n".join(f"{name}: {failure}" for name, failure in failures.items())
