"""Reranking over HTTP, in the shape that Jina, Cohere and vLLM share."""

import json
import math

import pytest

from shared import contracts

MODEL = contracts.LOCAL_RERANK_MODEL
DOCUMENTS = ["a cat sleeps", "the capital of france", "nothing here"]
QUERY = "capital of france"


def rerank(server, path="/v1/rerank", **body):
    return server.client.post(path, json={"model": MODEL, "query": QUERY, "documents": DOCUMENTS, **body})


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_the_best_document_comes_first_with_its_place_and_its_logit(server, path):
    answer = rerank(server, path).json()
    assert [result["index"] for result in answer["results"]] == [1, 0, 2]
    best = answer["results"][0]
    assert best["document"] == {"text": DOCUMENTS[1]} and best["logit"] == 2.5
    assert best["relevance_score"] == pytest.approx(1 / (1 + math.exp(-2.5)))
    assert answer["model"] == MODEL and answer["id"].startswith("rerank-")
    tokens = sum(3 + len(document.split()) for document in DOCUMENTS)
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert answer["meta"]["tokens"] == {"input_tokens": tokens}


def test_as_many_come_back_as_are_wanted_and_without_their_texts(server):
    results = rerank(server, top_n=2, return_documents=False).json()["results"]
    assert [set(result) for result in results] == [{"index", "relevance_score", "logit"}] * 2
    assert len(rerank(server, top_n=50).json()["results"]) == 3


def test_documents_may_be_objects_and_are_cut_where_asked(server):
    objects = [{"text": document} for document in DOCUMENTS]
    assert rerank(server, documents=objects).json()["results"] == rerank(server).json()["results"]
    assert rerank(server, max_tokens_per_doc=1).json()["results"][0]["logit"] == -0.5


def test_a_thousand_documents_keep_their_places(server):
    documents = [f"{'france' if number == 700 else 'x'} {number}" for number in range(1000)]
    results = rerank(server, documents=documents).json()["results"]
    assert results[0]["index"] == 700
    assert [result["index"] for result in results[1:4]] == [0, 1, 2]
    assert {result["document"]["text"] for result in results} == set(documents)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["a"] * 10_000}, "documents"),
        ({"documents": ["a", 3]}, "documents.1"),
        ({"documents": [{"title": "a"}]}, "documents.0"),
        ({"documents": "a"}, "documents"),
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "2"}, "top_n"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"rank_fields": ["title"]}, "rank_fields"),
        ({"max_chunks_per_doc": 3}, "max_chunks_per_doc"),
        ({"truncation": True}, "truncation"),
    ],
)
def test_bad_requests_are_refused_by_name(server, change, param):
    answer = rerank(server, **change)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"].startswith(param) and len(error["message"]) < 300


def test_odd_characters_are_ranked_or_refused(server):
    odd = ["", "\x00", "🎈 \u202e\ufeff", " ", "x" * 100_000]
    results = rerank(server, documents=odd).json()["results"]
    assert sorted(result["index"] for result in results) == [0, 1, 2, 3, 4]
    for half in (["half \ud83d"], [{"text": "a"}, "half \ud83d"], [{"text": "half \ud83d"}]):
        body = json.dumps({"model": MODEL, "query": QUERY, "documents": half})
        answer = server.client.post("/v1/rerank", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and answer.json()["error"]["message"].count("surrogate") == 1


def test_an_unknown_model_and_a_wrong_key_are_told(server):
    assert rerank(server, model="x").json()["error"]["code"] == "model_not_found"
    assert server.client.post("/rerank", json={}, headers={"Authorization": "no"}).status_code == 401
