"""OpenAI's SDK: embeddings of texts and tokens, as numbers and as base64; and reranking beside them."""

import asyncio
import math
from typing import Any

import httpx
import openai
import pytest

from shared.contracts import LOCAL_EMBEDDING_MODEL as MODEL
from shared.contracts import LOCAL_RERANK_MODEL
from tests.clients.conftest import Server

TEXTS = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "The central bank raised its rates."]


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def embed(client: openai.OpenAI, given: Any, model: str = MODEL, **asked: Any) -> list[list[float]]:
    answer = client.embeddings.create(model=model, input=given, **asked)
    assert answer.object == "list" and answer.model == model and answer.usage.total_tokens > 0
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return [item.embedding for item in answer.data]


def test_vectors_are_normalised_and_do_not_depend_on_their_neighbours(client: openai.OpenAI) -> None:
    together = embed(client, TEXTS)
    alone = [embed(client, text)[0] for text in TEXTS]
    for one, other in zip(together, alone, strict=True):
        assert math.isclose(cosine(one, one), 1, abs_tol=1e-4)
        assert cosine(one, other) > 0.999


def test_base64_holds_the_same_numbers(client: openai.OpenAI) -> None:
    as_base64, as_numbers = embed(client, TEXTS), embed(client, TEXTS, encoding_format="float")
    for one, other in zip(as_base64, as_numbers, strict=True):
        assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(one, other, strict=True))


@pytest.mark.models
@pytest.mark.parametrize("model", [MODEL, "bge-small-en-v1.5"])
def test_what_means_the_same_is_near(client: openai.OpenAI, model: str) -> None:
    cat, kitten, bank = embed(client, TEXTS, model)
    assert len(cat) == 384
    assert cosine(cat, kitten) > cosine(cat, bank) + 0.15


def test_token_arrays_are_embedded(client: openai.OpenAI) -> None:
    one, two = embed(client, [[1037, 4937], [2938]])
    assert embed(client, [1037, 4937])[0] == pytest.approx(one, abs=1e-3)
    assert cosine(one, two) < 0.999


def test_a_token_that_the_model_lacks_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=[10, 9_999_999])
    assert (caught.value.param or "").startswith("input")


def test_dimensions_are_the_models_or_refused(client: openai.OpenAI) -> None:
    width = len(embed(client, TEXTS[0])[0])
    assert len(embed(client, TEXTS[0], dimensions=width)[0]) == width
    for other in (width - 1, width + 1, 0):
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model=MODEL, input=TEXTS, dimensions=other)
        assert caught.value.param == "dimensions"


@pytest.mark.parametrize(
    "given", ["", [], ["ok", ""], [[]], [["a"]], [1, "a"], {"a": 1}, None, [True], ["a"] * 2049]
)
def test_an_odd_input_is_refused(http: httpx.Client, given: object) -> None:
    answer = http.post("/v1/embeddings", json={"model": MODEL, "input": given})
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"] or "").startswith("input")


def test_a_long_text_is_cut_and_answered(client: openai.OpenAI) -> None:
    (vector,) = embed(client, "word " * 5000)
    assert math.isclose(cosine(vector, vector), 1, abs_tol=1e-4)


def test_async(server: Server) -> None:
    async def ask() -> int:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=server.key) as client:
            answers = await asyncio.gather(
                *(client.embeddings.create(model=MODEL, input=text) for text in TEXTS)
            )
            return sum(len(answer.data) for answer in answers)

    assert asyncio.run(ask()) == 3


def test_documents_are_ranked_best_first(http: httpx.Client) -> None:
    documents = ["Bananas are yellow fruit.", "Airflow retries a failed task.", "A dag has tasks."]
    asked = {"model": LOCAL_RERANK_MODEL, "query": "How does Airflow retry a task?", "documents": documents}
    answer = http.post("/v1/rerank", json=asked)
    assert answer.status_code == 200
    results = answer.json()["results"]
    scores = [result["relevance_score"] for result in results]
    assert sorted(result["index"] for result in results) == [0, 1, 2] and scores == sorted(
        scores, reverse=True
    )
    assert results[0]["index"] == 1

    best = http.post("/v1/rerank", json={**asked, "top_n": 1, "return_documents": True}).json()["results"]
    assert len(best) == 1 and best[0]["document"]["text"] == documents[1]


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("documents", []),
        ("documents", None),
        ("query", ""),
        ("top_n", 0),
        ("documents", [1]),
        ("model", "nope"),
    ],
)
def test_an_odd_ranking_is_refused(http: httpx.Client, param: str, value: object) -> None:
    asked = {"model": LOCAL_RERANK_MODEL, "query": "q", "documents": ["d"], param: value}
    answer = http.post("/v1/rerank", json=asked)
    assert answer.status_code == (404 if param == "model" else 400)
    assert (answer.json()["error"]["param"] or "").startswith(param)
