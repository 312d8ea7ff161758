"""litellm: chat, embeddings and reranking, under the providers whose shapes the server shares."""

import asyncio
import os
from typing import Any

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches one when it is imported

import litellm

from shared.contracts import LOCAL_CHAT_MODEL, LOCAL_EMBEDDING_MODEL, LOCAL_RERANK_MODEL
from tests.clients.conftest import Server

ASK: list[Any] = [{"role": "user", "content": "One, two, three?"}]
DOCUMENTS = ["Bananas are yellow fruit.", "Airflow retries a failed task."]
TOOL = {
    "type": "function",
    "function": {
        "name": "report_weather",
        "parameters": {
            "type": "object",
            "properties": {"rain": {"type": "boolean"}},
            "required": ["rain"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def place(server: Server) -> dict[str, Any]:
    return {"api_base": server.base_url, "api_key": server.key, "timeout": 50, "num_retries": 0}


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_completion(place: dict[str, Any], provider: str) -> None:
    answer: Any = litellm.completion(
        f"{provider}/{LOCAL_CHAT_MODEL}", ASK, max_tokens=8, temperature=0, **place
    )
    assert answer.choices[0].message.content and answer.usage.completion_tokens <= 8


def test_a_stream(place: dict[str, Any]) -> None:
    async def ask() -> str:
        stream: Any = await litellm.acompletion(
            f"openai/{LOCAL_CHAT_MODEL}", ASK, max_tokens=8, temperature=0, stream=True, **place
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask())


def test_a_tool(place: dict[str, Any]) -> None:
    answer: Any = litellm.completion(
        f"openai/{LOCAL_CHAT_MODEL}",
        ASK,
        tools=[TOOL],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=100,
        **place,
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "report_weather" and '"rain"' in call.function.arguments


def test_text_completion(place: dict[str, Any]) -> None:
    answer: Any = litellm.text_completion(
        model=f"text-completion-openai/{LOCAL_CHAT_MODEL}", prompt="One, two,", max_tokens=4, **place
    )
    assert answer.choices[0].text


def test_embedding(place: dict[str, Any]) -> None:
    answer: Any = litellm.embedding(
        f"openai/{LOCAL_EMBEDDING_MODEL}", DOCUMENTS, encoding_format="float", **place
    )
    assert len(answer.data) == 2 and answer.data[0]["embedding"]


@pytest.mark.parametrize("provider", ["hosted_vllm", "jina_ai"])
def test_rerank(place: dict[str, Any], provider: str) -> None:
    answer: Any = litellm.rerank(
        f"{provider}/{LOCAL_RERANK_MODEL}",
        "How does Airflow retry a task?",
        DOCUMENTS,
        top_n=2,
        api_base=place["api_base"],
        api_key=place["api_key"],
    )
    first, second = answer.results
    assert first["index"] == 1 and first["relevance_score"] > second["relevance_score"]


def test_its_errors(place: dict[str, Any]) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion("openai/nope", ASK, **place)
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(f"openai/{LOCAL_CHAT_MODEL}", ASK, **{**place, "api_key": "wrong"})
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(f"openai/{LOCAL_CHAT_MODEL}", ASK, temperature=9, **place)
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(
            f"openai/{LOCAL_CHAT_MODEL}", [{"role": "user", "content": "word " * 30_000}], **place
        )
