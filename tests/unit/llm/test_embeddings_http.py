"""Embeddings over HTTP: what is taken, what comes back, and what is refused in words."""

import base64
import json
import math
import struct

import pytest

from shared import contracts

MODEL, MATRYOSHKA = contracts.LOCAL_EMBEDDING_MODEL, "fake-matryoshka"


def embed(server, **body):
    return server.client.post("/v1/embeddings", json={"model": MODEL, "input": "a", **body})


def vectors(server, **body):
    return [item["embedding"] for item in embed(server, **body).json()["data"]]


def test_texts_and_tokens_are_taken_alone_and_in_lists(server):
    for given, count in (("a b", 1), (["a b", "c"], 2), ([5, 6, 7], 1), ([[5, 6], [7]], 2), (["a", [5]], 2)):
        answer = embed(server, input=given).json()
        assert [item["index"] for item in answer["data"]] == list(range(count))
        assert {item["object"] for item in answer["data"]} == {"embedding"}
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
        assert (answer["object"], answer["model"]) == ("list", MODEL)
    assert vectors(server, input=[[5, 6], "a"]) == [
        *vectors(server, input=[5, 6]),
        *vectors(server, input="a"),
    ]


def test_many_texts_come_back_whole_and_in_order(server):
    texts = [f"text {number}" for number in range(2048)]
    answer = embed(server, input=texts, encoding_format="base64").json()
    assert [item["index"] for item in answer["data"]] == list(range(2048))
    for place in (0, 255, 256, 2047):
        alone = embed(server, input=texts[place], encoding_format="base64").json()["data"][0]
        assert answer["data"][place]["embedding"] == alone["embedding"]
    assert answer["usage"]["total_tokens"] == 4096


def test_base64_is_of_32_bit_floats(server):
    packed = embed(server, encoding_format="base64").json()["data"][0]["embedding"]
    assert struct.unpack("<8f", base64.b64decode(packed)) == pytest.approx(vectors(server)[0])


def test_a_vector_that_may_be_cut_is_cut_and_made_one_long_again(server):
    (whole,), (cut,) = vectors(server, model=MATRYOSHKA), vectors(server, model=MATRYOSHKA, dimensions=3)
    length = math.hypot(*whole[:3])
    assert cut == pytest.approx([number / length for number in whole[:3]])
    for model in (MODEL, MATRYOSHKA):
        assert vectors(server, model=model, dimensions=8) == vectors(server, model=model)


@pytest.mark.parametrize(
    ("model", "dimensions"), [(MODEL, 3), (MODEL, 9), (MATRYOSHKA, 9), (MODEL, 0), (MODEL, "8")]
)
def test_dimensions_that_can_not_be_had_are_refused_by_name(server, model, dimensions):
    answer = embed(server, model=model, dimensions=dimensions)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "dimensions")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "is empty"),
        ([], "an empty list"),
        ([[]], "is empty"),
        (["a", ""], "'input'[1] is empty"),
        (["a", []], "'input'[1] is empty"),
        (["a"] * 2049, "has 2049 elements"),
        ([1.5], "'input'[0] is neither"),
        ([True], "'input'[0] is neither"),
        ([[1, "a"]], "'input'[0] holds something that is not"),
        ([None], "'input'[0] is neither"),
        ({"text": "a"}, "is neither"),
        (None, "is neither"),
        (7, "is neither"),
        ([40_000], "no such token"),
        ([-1], "no such token"),
    ],
)
def test_an_input_that_can_not_be_embedded_is_refused_in_words(server, given, words):
    answer = embed(server, input=given)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "input" and words in error["message"]
    assert len(error["message"]) < 300


def test_half_a_character_is_refused(server):
    body = json.dumps({"model": MODEL, "input": "a \ud83d b"})
    answer = server.client.post("/v1/embeddings", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"truncate": True}, "truncate"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"model": 3}, "model"),
    ],
)
def test_what_is_not_known_is_refused_by_name(server, change, param):
    answer = embed(server, **change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_user_and_nulls_are_taken(server):
    assert embed(server, user="someone", encoding_format=None, dimensions=None).status_code == 200
    assert embed(server, model="x").json()["error"]["code"] == "model_not_found"
    assert embed(server, input="\x00 \u200b 🎈 " + "x" * 100_000).status_code == 200
