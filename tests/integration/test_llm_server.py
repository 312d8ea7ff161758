"""The LLM server as it is installed: on the bundled models, in an environment without torch."""

import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import pytest

from shared import contracts
from tests.llm_server import LLM_PYTHON, LlmServer, serve_llm

pytestmark = [
    pytest.mark.skipif(not LLM_PYTHON.exists(), reason="no .venv-llm: `make install` makes it"),
    pytest.mark.timeout(300),
]

MEMORY_AT_REST = 700 * 1024**2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    with serve_llm(tmp_path_factory.mktemp("llm"), seconds=240) as server:
        yield server


def ask(server: LlmServer, path: str, body: dict[str, object]) -> dict[str, object]:
    headers = {"Authorization": f"Bearer {server.key}"}
    answer = httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("module", ["torch", "transformers", "peft"])
def test_the_servers_environment_has_no(module: str) -> None:
    done = subprocess.run([LLM_PYTHON, "-c", f"import {module}"], capture_output=True, timeout=60)
    assert b"ModuleNotFoundError" in done.stderr


def test_it_is_well_with_all_its_models(server: LlmServer) -> None:
    assert httpx.get(f"{server.url}/ready", timeout=10).json()["status"] == "ready"
    assert httpx.get(f"{server.url}/health", timeout=10).json()["status"] == "ok"
    text = {
        "model": contracts.LOCAL_CHAT_MODEL,
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 8,
    }
    assert ask(server, "/v1/chat/completions", text)["choices"]
    texts = {"model": contracts.LOCAL_EMBEDDING_MODEL, "input": ["a chunk", "another"]}
    assert len(ask(server, "/v1/embeddings", texts)["data"]) == 2  # type: ignore[arg-type]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PSS is Linux's")
def test_its_memory_at_rest(server: LlmServer) -> None:
    if "served by torch" in server.log.read_text():
        pytest.skip("torch serves on this machine")
    process = psutil.Process(server.process.pid)
    family = [process, *process.children(recursive=True)]
    assert sum(member.memory_full_info().pss for member in family) < MEMORY_AT_REST


def test_the_log_says_which_engine_serves_and_why(server: LlmServer) -> None:
    lines = [line for line in server.log.read_text().splitlines() if "Chat is served by" in line]
    assert len(lines) == 1
    assert "llama_cpp" in lines[0] or "torch" in lines[0]
