"""`/v1/completions`: texts and tokens continued, echoed and scored."""

import json
import math

import pytest

from deployments.llm.api.logprobs import describe_text_logprobs, describe_tokens
from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.engines.ports import TokenLogprob
from shared import contracts

PATH = "/v1/completions"
MODEL = contracts.LOCAL_CHAT_MODEL


def post(server, prompt="one two three", **change):
    return server.client.post(PATH, json={"model": MODEL, "prompt": prompt, **change})


def ask(server, *args, **change):
    answer = post(server, *args, **change)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(server, *args, **change):
    text = post(server, *args, stream=True, **change).text
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def test_a_text_goes_on(server):
    body = ask(server, temperature=0, seed=3)
    (choice,) = body["choices"]
    assert choice == {"index": 0, "text": "one two three", "logprobs": None, "finish_reason": "stop"}
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 3)
    (request,) = server.engine.requests
    assert (request.prompt, request.max_tokens, request.seed) == ("one two three", 16, 3)


def test_prompts_are_texts_or_tokens_one_or_many(server):
    tokens = server.engine.tokenize("one two three")
    for prompt in (["one two three"], tokens, [tokens]):
        assert [choice["text"] for choice in ask(server, prompt)["choices"]] == ["one two three"]
    body = ask(server, ["a b", "c"], n=2)
    assert [(choice["index"], choice["text"]) for choice in body["choices"]] == [
        (0, "a b"),
        (1, "a b"),
        (2, "c"),
        (3, "c"),
    ]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 6)


def test_an_echo_stands_before_the_answer(server):
    assert ask(server, echo=True, max_tokens=2)["choices"][0]["text"] == "one two threeone two"
    tokens = server.engine.tokenize("a b")
    assert ask(server, tokens, echo=True)["choices"][0]["text"] == "a ba b"


def test_a_prompt_is_scored_where_nothing_is_to_be_written(server):
    (choice,) = (body := ask(server, echo=True, logprobs=2, max_tokens=0))["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("one two three", "length")
    assert choice["logprobs"]["tokens"] == ["one", "two", "three"]
    assert choice["logprobs"]["token_logprobs"] == [None, -0.5, -0.5]
    assert (
        choice["logprobs"]["top_logprobs"][0] is None and choice["logprobs"]["top_logprobs"][1]["two"] == -0.5
    )
    assert choice["logprobs"]["text_offset"] == [0, 3, 6]
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (3, 0)
    assert not server.engine.generations


def test_a_scored_prompt_may_go_on(server):
    (choice,) = ask(server, echo=True, logprobs=0, max_tokens=1)["choices"]
    assert choice["logprobs"]["tokens"] == ["one", "two", "three", "one"]
    assert choice["logprobs"]["token_logprobs"] == [None, -0.5, -0.5, -0.5]
    assert server.engine.requests[0].prompt == server.engine.tokenize("one two three")


def test_nothing_may_be_asked_for(server):
    body = ask(server, ["a b", "c"], max_tokens=0)
    assert [choice["text"] for choice in body["choices"]] == ["", ""]
    assert body["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("max_tokens", [0, 2])
def test_a_stream_tells_the_same(server, echo, max_tokens):
    change = {"echo": echo, "logprobs": 1, "max_tokens": max_tokens, "n": 2}
    whole = ask(server, ["a b", "c"], **change)
    events = stream(server, ["a b", "c"], **change, stream_options={"include_usage": True})
    assert (events[-1]["usage"], events[-1]["choices"]) == (whole["usage"], [])
    for choice in whole["choices"]:
        mine = [e["choices"][0] for e in events[:-1] if e["choices"][0]["index"] == choice["index"]]
        assert "".join(part["text"] for part in mine) == choice["text"]
        assert [part["finish_reason"] for part in mine if part["finish_reason"]] == [choice["finish_reason"]]
        for name, told in choice["logprobs"].items():
            parts = [item for part in mine if part["logprobs"] for item in part["logprobs"][name]]
            assert name == "text_offset" or parts == told


def test_offsets_go_on_in_a_stream(server):
    events = stream(server, "ab cd", echo=True, logprobs=0)
    offsets = [
        offset
        for event in events
        for offset in (event["choices"][0]["logprobs"] or {}).get("text_offset", [])
    ]
    assert offsets == [0, 2, 5, 7]  # the fake scores words without the space before them


def test_offsets_count_letters_and_broken_letters_are_told_by_their_bytes():
    snow, half, rest = "☃".encode(), b"\xf0\x9f", b"\x98\x80"
    tokens = [TokenLogprob(1, snow, math.nan), TokenLogprob(2, half, -1.0), TokenLogprob(3, rest, -math.inf)]
    told = describe_text_logprobs([*tokens, TokenLogprob(4, b"!", -2.0, (TokenLogprob(5, half, -3.0),))], 10)
    assert told["text_offset"] == [10, 11, 11, 12]
    assert told["tokens"] == ["☃", "bytes:\\xf0\\x9f", "bytes:\\x98\\x80", "!"]
    assert told["token_logprobs"] == [None, -1.0, -9999.0, -2.0]
    assert told["top_logprobs"][3] == {"bytes:\\xf0\\x9f": -3.0, "!": -2.0}
    assert describe_tokens(tokens[2:])[0]["logprob"] == -9999.0


REFUSED = [
    ({"suffix": "x"}, "suffix"),
    ({"best_of": 3}, "best_of"),
    ({"best_of": 1, "n": 2}, "best_of"),
    ({"logprobs": 6}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": [[]]}, "prompt.0"),
    ({"prompt": [1, "a"]}, "prompt.1"),
    ({"prompt": [-1]}, "prompt.0"),
    ({"prompt": [10**6]}, "prompt"),
    ({"prompt": [10**6], "echo": True}, "prompt"),
    ({"prompt": [10**6], "echo": True, "logprobs": 1}, "prompt"),
    ({"prompt": [1.5]}, "prompt.0"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": ["a"] * 33}, "prompt"),
    ({"prompt": "a\ud800"}, "prompt"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"prompt": "word " * 200_000}, "prompt"),
    ({"prompt": "word " * 201, "echo": True, "logprobs": 1, "max_tokens": 0}, "prompt"),
    ({"max_tokens": 500}, "prompt"),
]


def test_what_cannot_be_done_is_refused_by_name(server):
    for change, param in REFUSED:
        content = json.dumps({"model": MODEL, "prompt": "hi", **change})
        answer = server.client.post(PATH, content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), (
            content[:99],
            answer.text,
        )
    assert not server.engine.generations


def test_best_of_may_be_the_number_of_choices(server):
    assert len(ask(server, best_of=2, n=2, user="u")["choices"]) == 2


@pytest.mark.parametrize("change", [{}, {"max_tokens": 0}, {"max_tokens": 0, "echo": True, "logprobs": 1}])
def test_an_unknown_model_is_a_404_and_one_that_only_embeds_a_400(server, change):
    answer = post(server, model="nope", **change)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert post(server, model=contracts.LOCAL_EMBEDDING_MODEL, **change).status_code == 400


def test_a_server_without_models_says_so(start):
    server = start(FakeChatEngine(ready=False))
    answer = post(server)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")
