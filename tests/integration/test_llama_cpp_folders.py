"""Folders in Hugging Face's format become GGUF files that answer as transformers does, adapters included."""

from pathlib import Path

from tests.integration.check_run import TRAINER_PYTHON, needs, run_checks


@needs(TRAINER_PYTHON)
def test_tiny_folders_of_each_kind(tmp_path: Path) -> None:
    kinds = {"llama", "qwen2", "qwen3", "odd"}
    assert kinds <= run_checks(TRAINER_PYTHON, "llama_cpp_folder_checks", tmp_path, seconds=110)
