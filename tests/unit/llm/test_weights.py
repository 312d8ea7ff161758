"""Files of weights are found, and are those whose digest was named, whichever engine reads them."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from deployments.llm.engines.digests import WrongDigestError, check_digest, compute_digest
from deployments.llm.engines.torch.weights import locate_chat_weights
from deployments.llm.engines.weights import WeightsMissingError, find_weight_file
from deployments.llm.settings import LlmSettings

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "onnx/model.onnx", "tiny.gguf"])
def test_a_folders_one_file_of_weights_is_found(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(CONTENT)
    (tmp_path / "config.json").write_text("{}")
    assert find_weight_file(tmp_path) == find_weight_file(file) == file


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=str(tmp_path)):
        find_weight_file(tmp_path)


def test_weights_in_parts_are_not_taken_for_whole_ones(tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"model-0000{part}-of-00002.safetensors").write_bytes(CONTENT)
    with pytest.raises(WeightsMissingError, match="2 parts"):
        find_weight_file(tmp_path)


def test_a_folders_digest_is_that_of_sha256sums_list(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_text(name)
    command = "sha256sum config.json model.safetensors | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True).stdout
    assert compute_digest(tmp_path) == printed.split()[0]


def test_another_digest_is_refused_in_words(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(CONTENT)
    for expected in ("", DIGEST, f"sha256:{DIGEST}", f" {DIGEST.upper()}\n"):
        check_digest(file, expected, "SETTING")
    with pytest.raises(WrongDigestError, match=f"{DIGEST}, but SETTING says 00"):
        check_digest(file, "00", "SETTING")


def test_torch_trainer_and_scorer_take_no_weights_of_another_digest(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text(name)
    settings = LlmSettings(llm_base_model=str(tmp_path), cache_dir=tmp_path / "cache")
    right = settings.model_copy(update={"llm_base_model_sha256": compute_digest(tmp_path)})
    assert locate_chat_weights(right) == locate_chat_weights(settings) == str(tmp_path)
    with pytest.raises(WrongDigestError, match="GHOSTWRITER_LLM_BASE_MODEL_SHA256"):
        locate_chat_weights(settings.model_copy(update={"llm_base_model_sha256": "0" * 64}))
