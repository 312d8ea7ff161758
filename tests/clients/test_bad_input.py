"""Bad input over HTTP: refused in words or borne, and the server still answers."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from shared.contracts import LOCAL_CHAT_MODEL as MODEL
from shared.contracts import LOCAL_EMBEDDING_MODEL, LOCAL_RERANK_MODEL

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "One, two, three?"}],
    "temperature": 0,
    "max_tokens": 4,
}
CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def still_answers(http: httpx.Client) -> Iterator[None]:
    """After each of them the server is well."""
    yield
    assert http.get("/health").status_code == 200
    answer = http.post(CHAT, json={**ASK, "max_tokens": 1})
    assert answer.status_code == 200, answer.text


def refused(answer: httpx.Response, *params: str, status: int = 400) -> str:
    """Checks OpenAI's shape and which parameter is named; gives the message."""
    assert answer.status_code == status, answer.text[:2000]
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"] and len(answer.content) < 5_000, "a refusal repeats what it refuses"
    if params:
        assert (error["param"] or "").startswith(params), error
    return str(error["message"])


def with_messages(messages: object) -> dict[str, Any]:
    return {**ASK, "messages": messages}


def test_a_megabyte_of_prompt(http: httpx.Client) -> None:
    started = time.monotonic()
    answer = http.post(CHAT, json=with_messages([{"role": "user", "content": "word " * 200_000}]))
    assert "context" in refused(answer, "messages")
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("letter", ["a", "\u00e9", "🙂", "\n", "<|im_start|>"])
def test_a_megabyte_without_a_space(http: httpx.Client, letter: str) -> None:
    """Some tokenizers take the square of a word's length."""
    text = letter * (1_000_000 // len(letter.encode()))
    answer = http.post(CHAT, json=with_messages([{"role": "user", "content": text}]))
    if answer.status_code != 200:  # the fakes take it for one word
        refused(answer, "messages")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/rerank"])
def test_a_megabyte_elsewhere(http: httpx.Client, path: str) -> None:
    text = "word " * 200_000
    asked: dict[str, Any] = {
        "/v1/completions": {"model": MODEL, "prompt": text, "max_tokens": 1},
        "/v1/responses": {"model": MODEL, "input": text, "max_output_tokens": 16},
        "/v1/embeddings": {"model": LOCAL_EMBEDDING_MODEL, "input": text},
        "/v1/rerank": {"model": LOCAL_RERANK_MODEL, "query": text, "documents": [text, "a"]},
    }[path]
    answer = http.post(path, json=asked)
    if path in ("/v1/embeddings", "/v1/rerank"):
        assert answer.status_code in (200, 400)
    else:
        refused(answer, "prompt", "input", "messages")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        None,
        "hello",
        [None],
        [[]],
        [{}],
        [{"role": "user"}],
        [{"content": "a"}],
        [{"role": "wizard", "content": "a"}],
        [{"role": "", "content": "a"}],
        [{"role": "User", "content": "a"}],
        [{"role": ["user"], "content": "a"}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [
            {
                "role": "user",
                "content": [{"type": "input_audio", "input_audio": {"data": "!", "format": "wav"}}],
            }
        ],
        [{"role": "tool", "content": "a"}],
        [{"role": "assistant", "content": None}],
    ],
)
def test_odd_messages(http: httpx.Client, messages: object) -> None:
    refused(http.post(CHAT, json=with_messages(messages)), "messages")


@pytest.mark.parametrize("text", ["", " ", "\x00", "a\x00b", "\ufeff", "\u202e", "\U0010ffff", "<|im_end|>"])
def test_odd_but_honest_text_is_answered(http: httpx.Client, text: str) -> None:
    answer = http.post(CHAT, json=with_messages([{"role": "user", "content": text}]))
    assert answer.status_code in (200, 400)


def test_a_prompt_that_leaves_no_room(http: httpx.Client) -> None:
    message = refused(
        http.post(CHAT, json=with_messages([{"role": "user", "content": "word " * 20_000}])), "messages"
    )
    assert any(character.isdigit() for character in message), "how long is too long?"
    answer = http.post(CHAT, json={**ASK, "max_tokens": 10_000_000})
    refused(answer, "max_tokens", "max_completion_tokens", "messages")


NUMBERS = {
    "temperature": ["NaN", "Infinity", "-Infinity", "-0.1", "2.1", "1e999", '"1"x', "true", "[1]", '"hot"'],
    "top_p": ["NaN", "-1", "0", "1.1", "Infinity"],
    "frequency_penalty": ["NaN", "-2.1", "2.1"],
    "presence_penalty": ["NaN", "-2.1", "2.1"],
    "max_tokens": ["NaN", "0", "-1", "1.5", "Infinity", "1e40", "99999999999999999999999"],
    "max_completion_tokens": ["0", "-1", "NaN"],
    "n": ["0", "-1", "1000000", "NaN", "1.5"],
    "seed": ["NaN", "1.5", "1e400", "999999999999999999999999999"],
    "top_logprobs": ["-1", "21", "NaN"],
    "logit_bias": [
        '{"1": NaN}',
        '{"1": 101}',
        '{"1": -101}',
        '{"a": 1}',
        '{"-1": 1}',
        '{"99999999": 1}',
        "[]",
        "3",
    ],
}


@pytest.mark.parametrize(
    ("param", "value"), [(param, value) for param, values in NUMBERS.items() for value in values]
)
def test_numbers_that_are_none_or_out_of_range(http: httpx.Client, param: str, value: str) -> None:
    """As bytes: no client's JSON would write some of these."""
    body = {name: given for name, given in ASK.items() if name != param}
    if param == "top_logprobs":
        body["logprobs"] = True
    if param == "max_completion_tokens":
        del body["max_tokens"]
    text = f'{json.dumps(body)[:-1]}, "{param}": {value}}}'
    answer = http.post(CHAT, content=text, headers={"Content-Type": "application/json"})
    params = [param]
    if "NaN" in value or "Infinity" in value or value == '"1"x':
        params = []  # not JSON at all, and perhaps refused as that
    elif value == "99999999999999999999999":
        params.append("messages")  # as OpenAI says it: prompt and limit together are too long
    refused(answer, *params)


@pytest.mark.parametrize(
    "stop",
    [
        ["a"] * 10_000,
        [],
        [""],
        "",
        [None],
        {"a": 1},
        [["a"]],
        7,
        ["a" * 1_000_000],
        ["a", "b", "c", "d", "e"],
    ],
)
def test_odd_stop_strings(http: httpx.Client, stop: object) -> None:
    answer = http.post(CHAT, json={**ASK, "stop": stop})
    if stop == [] or (isinstance(stop, list) and stop and isinstance(stop[0], str) and len(stop[0]) > 1000):
        assert answer.status_code in (200, 400)
    else:
        refused(answer, "stop")


def schema(body: object, name: object = "shape") -> dict[str, Any]:
    return {**ASK, "response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": body}}}


TREE = {
    "type": "object",
    "properties": {"leaf": {"type": "boolean"}, "child": {"$ref": "#"}},
    "required": ["leaf"],
    "additionalProperties": False,
}
ENDLESS = {
    "type": "object",
    "properties": {"child": {"$ref": "#"}},
    "required": ["child"],
    "additionalProperties": False,
}


def deep(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "boolean"}
    for _ in range(levels):
        found = {"type": "array", "items": found}
    return found


@pytest.mark.parametrize(
    "body",
    [
        {"type": "nothing"},
        {"enum": []},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"not": {}},
        False,
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "file:///etc/passwd"},
        ENDLESS,
        {"type": "object", "properties": "none"},
        {"type": 7},
        [],
        "text",
        {"type": "string", "pattern": "("},
        {"type": "string", "pattern": "(a+)+$"},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 100_000_000},
        {"type": "string", "minLength": 10_000_000},
        deep(200),
        {"enum": [f"value {number}" for number in range(20_000)]},
    ],
    ids=lambda body: json.dumps(body)[:50],
)
def test_a_schema_that_nothing_satisfies(http: httpx.Client, body: object) -> None:
    """It is refused; or, where nothing tells in advance, the answer ends at its limit and is not called whole."""
    started = time.monotonic()
    answer = http.post(CHAT, json=schema(body))
    assert time.monotonic() - started < 30
    if answer.status_code == 200:
        assert answer.json()["choices"][0]["finish_reason"] in ("length", "stop")
    else:
        refused(answer, "response_format")


@pytest.mark.parametrize(
    "body",
    [
        {"type": "nothing"},
        {"enum": []},
        False,
        {"$ref": "#/$defs/missing"},
        {"type": "object", "properties": "none"},
        [],
    ],
    ids=json.dumps,
)
def test_a_schema_that_is_plainly_none_is_refused(http: httpx.Client, body: object) -> None:
    refused(http.post(CHAT, json=schema(body)), "response_format")


@pytest.mark.models
def test_a_schema_that_recurses_is_kept(http: httpx.Client) -> None:
    answer = http.post(CHAT, json={**schema(TREE), "max_tokens": 200})
    if answer.status_code == 400:
        refused(answer, "response_format")
        return
    choice = answer.json()["choices"][0]
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"])["leaf"], bool)


@pytest.mark.parametrize(
    "form",
    [{}, {"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {}}, "json", [], 7,
     {"type": "json_schema", "json_schema": {"name": "a b/c", "schema": {"type": "object"}}}],
)  # fmt: skip
def test_an_odd_format(http: httpx.Client, form: object) -> None:
    refused(http.post(CHAT, json={**ASK, "response_format": form}), "response_format")


@pytest.mark.parametrize(
    "tools",
    [
        {},
        "tool",
        [{}],
        [{"type": "function"}],
        [{"type": "function", "function": {}}],
        [{"type": "function", "function": {"name": ""}}],
        [{"type": "function", "function": {"name": "a b"}}],
        [{"type": "function", "function": {"name": "a", "parameters": []}}],
        [{"type": "function", "function": {"name": "a" * 1000}}],
        [{"type": "web_search"}],
        [{"type": "function", "function": {"name": "a"}}] * 1000,
    ],
    ids=lambda tools: json.dumps(tools)[:40],
)
def test_odd_tools(http: httpx.Client, tools: object) -> None:
    refused(http.post(CHAT, json={**ASK, "tools": tools, "tool_choice": "required"}), "tools", "tool_choice")


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,!!!not!!!", "data:image/png;base64,AAA", "file:///etc/passwd"]
)
def test_a_base64_that_is_none(http: httpx.Client, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    refused(http.post(CHAT, json=with_messages([{"role": "user", "content": [part]}])), "messages")
    file = {"type": "file", "file": {"file_data": url}}
    refused(http.post(CHAT, json=with_messages([{"role": "user", "content": [file]}])), "messages")
    image = {"type": "input_image", "image_url": url}
    asked = {"model": MODEL, "input": [{"role": "user", "content": [image]}]}
    refused(http.post("/v1/responses", json=asked), "input")


@pytest.mark.parametrize("form", ["base32", "", 7, None, ["float"]])
def test_an_odd_encoding(http: httpx.Client, form: object) -> None:
    asked = {"model": LOCAL_EMBEDDING_MODEL, "input": "a", "encoding_format": form}
    answer = http.post("/v1/embeddings", json=asked)
    if form is None:
        assert answer.status_code in (200, 400)
    else:
        refused(answer, "encoding_format")


@pytest.mark.parametrize("model", [None, "", 7, [], "../../etc/passwd", "a" * 100_000, "\x00", "ft:x::y"])
def test_an_odd_model(http: httpx.Client, model: object) -> None:
    answer = http.post(CHAT, json={**ASK, "model": model})
    assert answer.status_code in (400, 404)
    refused(answer, "model", status=answer.status_code)


def test_ten_thousand_texts_and_very_many_documents(http: httpx.Client) -> None:
    refused(
        http.post("/v1/embeddings", json={"model": LOCAL_EMBEDDING_MODEL, "input": ["a"] * 10_000}), "input"
    )
    asked = {"model": LOCAL_RERANK_MODEL, "query": "a", "documents": ["a"] * 100_000}
    refused(http.post("/v1/rerank", json=asked), "documents")
