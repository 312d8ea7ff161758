"""Files of weights are found, and are those whose digest was named."""

import hashlib
from pathlib import Path

import pytest

from deployments.llm.engines.weights import WeightsChangedError, WeightsMissingError, check_digest

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx", "onnx/model.onnx", "tiny.gguf"])
def test_a_folder_is_checked_by_its_weight_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(CONTENT)
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path, file):
        for digest in ("", DIGEST, f"sha256:{DIGEST.upper()}".replace("SHA", "sha"), f" {DIGEST}\n"):
            check_digest(path, digest)
        with pytest.raises(WeightsChangedError, match=DIGEST):
            check_digest(path, "0" * 64)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=str(tmp_path)):
        check_digest(tmp_path, DIGEST)


def test_weights_in_parts_are_not_taken_for_whole_ones(tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"model-0000{part}-of-00002.safetensors").write_bytes(CONTENT)
    with pytest.raises(WeightsMissingError, match="2 parts"):
        check_digest(tmp_path, DIGEST)
