"""What `/v1/chat/completions` takes and refuses: everything is done as asked, or a 400 names the parameter."""

import json

import pytest

from deployments.llm.engines.fakes import FakeChatEngine
from shared import contracts
from tests.asgi_call import Call
from tests.unit.llm.conftest import KEY

PATH = "/v1/chat/completions"
CHAT = {"model": contracts.LOCAL_CHAT_MODEL, "messages": [{"role": "user", "content": "one two three four"}]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
USER = {"role": "user", "content": "hi"}


def post(server, **change):
    return server.client.post(PATH, json={**CHAT, **change})


def refusal(answer):
    error = answer.json()["error"]
    assert (answer.status_code, set(error)) == (400, {"message", "type", "param", "code"}), answer.text
    assert error["type"] == "invalid_request_error" and error["message"]
    return error


REFUSED = [
    ({"frobnicate": 1}, "frobnicate"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": "auto"}, "function_call"),
    ({"store": True}, "store"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"top_k": 4}, "top_k"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"seed": 2**63}, "seed"),
    ({"stop": ["x"] * 10_000}, "stop"),
    ({"stop": ""}, "stop"),
    ({"logit_bias": {"a": 1}}, "logit_bias.a"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    (
        {"stream": True, "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
    ),
    ({"stream": True, "stream_options": {"more": 1}}, "stream_options.more"),
    ({"parallel_tool_calls": True}, "parallel_tool_calls"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
    ({"tools": [TOOL, TOOL]}, "tools"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
    ({"tools": [TOOL] * 65}, "tools"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        "response_format.json_schema.name",
    ),
    ({"messages": []}, "messages"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
    ({"messages": [{"content": "x"}]}, "messages.0"),
    ({"messages": [USER, {"role": "assistant"}]}, "messages.1.content"),
    (
        {"messages": [USER, {"role": "tool", "content": "4", "tool_call_id": "c"}]},
        "messages.1.tool_call_id",
    ),
    ({"messages": [{"role": "function", "name": "f", "content": "4"}]}, "messages.0.role"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages.0.content.0.type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        "messages.0.content.0.type",
    ),
]


def test_what_cannot_be_done_is_refused_by_name(server):
    found = [(change, refusal(post(server, **change))["param"]) for change, _ in REFUSED]
    assert found == REFUSED
    assert not server.engine.generations


def test_an_unknown_argument_is_named_in_openais_words(server):
    assert (
        refusal(post(server, frobnicate=1))["message"] == "Unrecognized request argument supplied: frobnicate"
    )
    error = refusal(server.client.post(PATH, json={"messages": [USER]}))
    assert (error["param"], error["message"]) == ("model", "Missing required parameter: 'model'.")


HARMLESS = [
    {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"},
    {"safety_identifier": "s", "prompt_cache_key": "k", "modalities": ["text"], "verbosity": "medium"},
    {"reasoning_effort": "none", "functions": None, "audio": None, "tools": None, "tool_choice": None},
    {"tool_choice": "auto", "stop": None, "logit_bias": None, "response_format": {"type": "text"}},
    {"stream_options": None, "tool_choice": "none", "tools": []},
    {"messages": [{"role": "assistant", "content": "x", "annotations": [], "audio": None, "refusal": None}]},
    {"messages": [{"role": "assistant", "content": "x", "provider_specific_fields": {"refusal": None}}]},
    {"messages": [{"role": "developer", "content": [{"type": "text", "text": "one"}]}]},
]


def test_what_has_no_effect_is_let_pass(server):
    assert [change for change in HARMLESS if post(server, **change).status_code != 200] == []


def test_everything_that_is_asked_reaches_the_engine(server):
    asked = {"temperature": 0, "top_p": 0.5, "frequency_penalty": 1, "presence_penalty": -1, "seed": 7}
    more = {"stop": ["four"], "logit_bias": {"3": -100}, "logprobs": True, "top_logprobs": 4, "max_tokens": 9}
    assert post(server, **asked, **more, n=2).status_code == 200
    first, second = server.engine.requests
    for request, seed in ((first, 7), (second, 8)):
        assert {name: getattr(request, name) for name in asked} == {**asked, "seed": seed}
        assert (request.stop, request.logit_bias, request.logprobs, request.max_tokens) == (
            ("four",),
            {3: -100},
            4,
            9,
        )
    server.engine.requests.clear()
    post(server)
    (request,) = server.engine.requests
    assert (request.temperature, request.top_p, request.max_tokens, request.seed) == (1, 1, None, None)
    assert (request.stop, request.logprobs, request.json_schema) == ((), None, None)


def test_the_largest_seed_has_one_after_it(server):
    assert post(server, seed=2**63 - 1, n=2).status_code == 200
    assert [request.seed for request in server.engine.requests] == [2**63 - 1, -(2**63)]


def test_a_number_that_is_not_finite_is_refused(server):
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        for field in ("temperature", "top_p", "frequency_penalty"):
            body = json.dumps(CHAT)[:-1] + f', "{field}": {number}}}'
            answer = server.client.post(PATH, content=body, headers={"Content-Type": "application/json"})
            assert refusal(answer)["param"] == field


NOT_JSON = [
    (b"{", "application/json"),
    (b"", "application/json"),
    (b"[]", "application/json"),
    (b'"x"', "application/json"),
    (b"null", "application/json"),
    ('{"model": "ü"}'.encode("latin-1"), "application/json; charset=latin-1"),
    (b"[" * 100_000, "application/json"),
    (b"1" * 5000, "application/json"),
    (b"{}", "text/plain"),
    (b"a=b", "application/x-www-form-urlencoded"),
    (b"\x00\xff", "application/octet-stream"),
]


def test_what_is_not_json_is_refused_in_words(server):
    for content, kind in NOT_JSON:
        answer = server.client.post(PATH, content=content, headers={"Content-Type": kind})
        error = refusal(answer)
        assert "JSON" in error["message"] and error["param"] is None, content[:20]


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "%s", "messages": [{"role": "user", "content": "a\\ud800b"}]}',
        '{"model": "%s", "messages": [{"role": "user", "content": "x"}], "\\ud800": 1}',
        '{"model": "%s\\udc00", "messages": [{"role": "user", "content": "x"}]}',
        '{"model": "%s", "messages": [{"role": "user", "content": "x"}], "stop": "\\ud83d"}',
        '{"model": "%s", "messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema",'
        ' "json_schema": {"name": "n", "schema": {"enum": ["\\ud800"]}}}}',
    ],
)
def test_half_a_surrogate_pair_is_refused(server, body):
    sent = {"Content-Type": "application/json"}
    content = body % contracts.LOCAL_CHAT_MODEL
    assert refusal(server.client.post(PATH, content=content, headers=sent))


def test_a_whole_pair_is_one_letter(server):
    assert (
        post(server, messages=[{"role": "user", "content": "😀"}]).json()["choices"][0]["message"]["content"]
        == "😀"
    )


def test_a_megabyte_of_prompt_does_not_fit(server):
    error = refusal(post(server, messages=[{"role": "user", "content": "word " * 200_000}]))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert "200 tokens" in error["message"] and "200000" in error["message"]


def test_names_stand_before_what_they_said(server):
    said = [
        {"role": "user", "name": "Ada", "content": "hi"},
        {"role": "assistant", "name": "Bob", "content": "ho"},
    ]
    post(server, messages=said)
    assert [message["content"] for message in server.engine.requests[0].prompt] == ["Ada: hi", "Bob: ho"]


def test_a_method_that_is_not_there_is_a_405_in_openais_shape(server):
    answer = server.client.get(PATH)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_all_methods_of_a_path_are_told(server):
    assert server.client.put("/v1/models/x").headers["Allow"] == "DELETE, GET"


def test_a_queue_that_fills_in_between_leaves_nothing_running(start):
    server = start(FakeChatEngine(max_queue=2))
    answer = post(server, n=3)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert [generation.cancelled.is_set() for generation in server.engine.generations] == [True, True]


def test_a_body_with_a_byte_order_mark_is_answered_without_a_500(server):
    sent = {"Authorization": f"Bearer {KEY}".encode(), "Content-Type": b"application/json"}
    call = Call(server.client.app, PATH, [b"\xef\xbb\xbf" + json.dumps(CHAT).encode()], sent)
    assert call.status in (200, 400)


def test_a_form_that_cannot_be_read_is_refused_in_words(server):
    sent = {"content": b"--y", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
    assert "JSON" not in refusal(server.client.post("/v1/files", **sent))["message"]
