"""By which name a base model is known, whatever its weights are found by."""

from pathlib import Path

import pytest

from deployments.llm.engines.weights import name_base, name_weights


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("maker/Model-1", "Model-1"),
        ("/there/Model-1/", "Model-1"),
        ("/hub/models--maker--Model-1/snapshots/0a1b2c", "Model-1"),
        (".", ""),
        ("", ""),
    ],
)
def test_a_name_is_the_models_own(weights: str, name: str) -> None:
    assert name_weights(weights) == name


def test_a_gguf_file_has_the_name_of_the_folder_that_jobs_train_on(tmp_path: Path) -> None:
    gguf = tmp_path / "Model.Q8.gguf"
    gguf.write_bytes(b"12345")
    assert name_base(str(gguf)) == "model.q8-5"


def test_what_is_not_there_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_base(str(tmp_path / "gone.gguf")) == ""
    monkeypatch.setattr("deployments.llm.engines.weights._CHAT_PACKAGE", "no_such_package")
    assert name_base("") == ""
