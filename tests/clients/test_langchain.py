"""LangChain: ChatOpenAI and OpenAIEmbeddings."""

import gzip
import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from shared.contracts import LOCAL_CHAT_MODEL, LOCAL_EMBEDDING_MODEL
from tests.clients.conftest import Server

TEXTS = ["A cat sleeps on the sofa.", "The central bank raised its rates."]


class Report(BaseModel):
    """Reports the weather."""

    sky: Literal["sun", "rain"]
    cold: bool


@tool
def report_weather(town: Literal["Bonn", "Berlin"]) -> str:
    """Reports the weather of a town."""
    return f"It rains in {town}."


@pytest.fixture(scope="module")
def chat(server: Server) -> ChatOpenAI:
    return ChatOpenAI(
        model=LOCAL_CHAT_MODEL,
        base_url=server.base_url,
        api_key=server.key,  # type: ignore[arg-type]
        temperature=0,
        max_completion_tokens=160,
        max_retries=0,
        timeout=50,
    )


def embeddings(server: Server, **settings: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model=LOCAL_EMBEDDING_MODEL,
        base_url=server.base_url,
        api_key=server.key,  # type: ignore[arg-type]
        max_retries=0,
        timeout=50,
        **settings,
    )


def test_invoke_tells_what_it_used(chat: ChatOpenAI) -> None:
    answer = chat.bind(max_tokens=8).invoke([SystemMessage("Be brief."), HumanMessage("One, two, three?")])
    assert isinstance(answer, AIMessage) and answer.content
    assert answer.usage_metadata is not None and answer.usage_metadata["output_tokens"] <= 8
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


def test_a_stream_adds_up_to_an_answer_with_its_usage(chat: ChatOpenAI) -> None:
    total: Any = None
    for chunk in chat.bind(max_tokens=8).stream("One, two, three?", stream_usage=True):
        total = chunk if total is None else total + chunk
    assert total.content and total.usage_metadata["output_tokens"] > 0


def test_batch(chat: ChatOpenAI) -> None:
    assert all(answer.content for answer in chat.bind(max_tokens=4).batch(["One", "Two", "Three"]))


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(chat: ChatOpenAI, method: Literal["json_schema", "function_calling"]) -> None:
    found = chat.with_structured_output(Report, method=method).invoke("It rains, and it is cold.")
    assert isinstance(found, Report)


def test_a_tool_is_called_and_answered(chat: ChatOpenAI) -> None:
    ask = HumanMessage("How is the weather in Bonn?")
    answer = chat.bind_tools([report_weather], tool_choice="any").invoke([ask])
    assert isinstance(answer, AIMessage)
    (call,) = answer.tool_calls
    assert call["name"] == "report_weather" and call["args"]["town"] in ("Bonn", "Berlin")
    said = report_weather.invoke(call)
    assert isinstance(said, ToolMessage)
    after = chat.bind_tools([report_weather], tool_choice="none").invoke([ask, answer, said], max_tokens=12)
    assert after.content


def test_the_responses_api(server: Server) -> None:
    chat = ChatOpenAI(
        model=LOCAL_CHAT_MODEL,
        base_url=server.base_url,
        api_key=server.key,  # type: ignore[arg-type]
        temperature=0,
        max_completion_tokens=16,
        use_responses_api=True,
        max_retries=0,
    )
    answer = chat.invoke("One, two, three?")
    assert answer.text and answer.usage_metadata is not None  # type: ignore[attr-defined]


def test_embeddings_of_texts(server: Server) -> None:
    embedder = embeddings(server, check_embedding_ctx_length=False)
    vectors = embedder.embed_documents(TEXTS)
    assert len(vectors) == 2
    assert embedder.embed_query(TEXTS[0]) == pytest.approx(vectors[0], abs=1e-3)


def test_embeddings_of_openais_tokens(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it sends cl100k's tokens. They name other words here, so they must be understood or refused."""
    spec = find_spec("bpe_openai")  # found, not imported: the package loads 70 MB that aren't needed
    assert spec and spec.submodule_search_locations, (
        "bpe-openai, which has tiktoken's ranks, is not installed"
    )
    ranks = Path(spec.submodule_search_locations[0]) / "data" / "cl100k_base.tiktoken.gz"
    address = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    cache = tmp_path / hashlib.sha1(address.encode()).hexdigest()
    cache.write_bytes(gzip.decompress(ranks.read_bytes()))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    plain = embeddings(server, check_embedding_ctx_length=False).embed_documents(TEXTS)
    try:
        vectors = embeddings(server).embed_documents(TEXTS)
    except openai.BadRequestError as error:
        refused = error.param or ""
        assert refused.startswith("input")
        return
    for one, other in zip(vectors, plain, strict=True):
        assert sum(a * b for a, b in zip(one, other, strict=True)) > 0.99, (
            "the tokens were taken for other words"
        )
