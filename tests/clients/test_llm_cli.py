"""The command `llm`, over a user folder that names the server's models."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from llm.default_plugins.openai_models import OpenAIEmbeddingModel

from shared.contracts import LOCAL_CHAT_MODEL, LOCAL_EMBEDDING_MODEL
from tests.clients.conftest import Server


@pytest.fixture
def llm(server: Server, tmp_path: Path) -> Callable[..., str]:
    """Runs the command and gives what it prints."""
    common = {"model_name": LOCAL_CHAT_MODEL, "api_base": server.base_url, "api_key_name": "ghostwriter"}
    models = [
        {"model_id": "ours", "supports_schema": True, "supports_tools": True, **common},
        {"model_id": "ours-text", "completion": True, **common},
        {"model_id": "ours-responses", "responses": True, **common},
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(yaml.safe_dump(models))
    (tmp_path / "keys.json").write_text(json.dumps({"ghostwriter": server.key}))

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "llm", *arguments]
        environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=50, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("model", ["ours", "ours-responses"])
def test_prompt(llm: Callable[..., str], model: str) -> None:
    assert llm(
        "prompt", "-m", model, "-o", "temperature", "0", "-o", "max_tokens", "16", "One, two, three?"
    ).strip()


def test_prompt_in_one_piece(llm: Callable[..., str]) -> None:
    whole = llm(
        "prompt", "--no-stream", "-m", "ours", "-s", "Be brief.", "-o", "max_tokens", "8", "One, two?"
    )
    assert whole.strip()


def test_text_is_continued(llm: Callable[..., str]) -> None:
    assert llm("prompt", "-m", "ours-text", "-o", "max_tokens", "4", "One, two, three,").strip()


def test_a_schema_is_kept(llm: Callable[..., str]) -> None:
    schema = {
        "type": "object",
        "properties": {"sky": {"enum": ["sun", "rain"]}, "cold": {"type": "boolean"}},
        "required": ["sky", "cold"],
        "additionalProperties": False,
    }
    answer = json.loads(
        llm("prompt", "-m", "ours", "--schema", json.dumps(schema), "It rains, and it is cold.")
    )
    assert answer.keys() == {"sky", "cold"}


def test_embeddings(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command knows OpenAI's own embedding models alone; its class takes ours."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    model = OpenAIEmbeddingModel("ours", LOCAL_EMBEDDING_MODEL)
    vectors = list(model.embed_batch(["A cat.", "A bank."], key=server.key))
    assert len(vectors) == 2 and vectors[0] != vectors[1]
