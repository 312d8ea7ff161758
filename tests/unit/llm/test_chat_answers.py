"""Answers of `/v1/chat/completions`: several choices, log probabilities, held to JSON, whole and as a stream."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deployments.llm.engines.fakes import FakeChatEngine, FakeGeneration
from deployments.llm.engines.ports import EngineError, Piece, UnsupportedError
from deployments.llm.errors import ApiError
from deployments.llm.routes.answers import read_pieces
from shared import contracts

PATH = "/v1/chat/completions"
CHAT = {"model": contracts.LOCAL_CHAT_MODEL, "messages": [{"role": "user", "content": "one two three four"}]}


def ask(server, **change):
    answer = server.client.post(PATH, json={**CHAT, **change})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(server, **change):
    text = server.client.post(PATH, json={**CHAT, "stream": True, **change}).text
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def test_several_choices_are_numbered_and_their_usage_is_one(server):
    body = ask(server, n=3)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in body["choices"]} == {"one two three four"}
    usage = {"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}
    assert body["usage"] == {**usage, "prompt_tokens_details": {"cached_tokens": 0}}


def test_streamed_choices_say_which_they_are(server):
    events = stream(server, n=2, stream_options={"include_usage": True})
    assert len({event["id"] for event in events}) == 1
    for index in (0, 1):
        choices = [event["choices"][0] for event in events if event["choices"]]
        mine = [choice for choice in choices if choice["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "one two three four"
        assert [choice["finish_reason"] for choice in mine][-2:] == [None, "stop"]
    assert (events[-1]["choices"], events[-1]["usage"]["completion_tokens"]) == ([], 8)
    assert all(event["usage"] is None for event in events[:-1])


def test_log_probabilities_come_with_their_alternatives(server):
    content = ask(server, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in content] == ["one", " two", " three", " four"]
    assert content[1]["bytes"] == list(b" two") and content[1]["logprob"] == -0.5
    assert [len(token["top_logprobs"]) for token in content] == [2] * 4
    assert ask(server, logprobs=True)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []
    assert ask(server)["choices"][0]["logprobs"] is None


def test_a_stream_tells_the_same_log_probabilities(server):
    whole = ask(server, logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]["content"]
    choices = [event["choices"][0] for event in stream(server, logprobs=True, top_logprobs=1)]
    told = [token for choice in choices if choice["logprobs"] for token in choice["logprobs"]["content"]]
    assert told == whole


def test_json_is_asked_of_the_engine_by_its_schema(server):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
    body = ask(server, response_format=form)
    assert json.loads(body["choices"][0]["message"]["content"]) == {"a": 0}
    assert server.engine.requests[-1].json_schema == {**schema, "additionalProperties": False}
    ask(server, response_format={"type": "json_object"})
    assert server.engine.requests[-1].json_schema == {}


class Broken(FakeGeneration):
    """Fails after a word."""

    def __init__(self, error):
        super().__init__(["one"], 1, 5, None)
        self.error = error

    def __iter__(self):
        yield Piece("one")
        raise self.error


@pytest.mark.parametrize("late", [False, True], ids=["before the answer", "at its end"])
def test_a_schema_that_the_engine_refuses_is_told_by_the_callers_parameter(start, monkeypatch, late):
    server = start()

    def refuse(request):
        error = UnsupportedError("No answer can be held to it.", "response_format")
        if late:
            return Broken(error)
        raise error

    monkeypatch.setattr(server.engine, "generate", refuse)
    tool = {"type": "function", "function": {"name": "f"}}
    flat = {"model": CHAT["model"], "input": "hi", "text": {"format": {"type": "json_object"}}}
    for path, body, param in (
        (PATH, {**CHAT, "tools": [tool]}, "tools"),
        (PATH, {**CHAT, "response_format": {"type": "json_object"}}, "response_format"),
        ("/v1/responses", flat, "text.format"),
    ):
        answer = server.client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    if late:
        streamed = server.client.post(PATH, json={**CHAT, "tools": [tool], "stream": True}).text
        last = json.loads(streamed.split("data: ")[-1])["error"]
        assert (last["code"], last["param"]) == ("unsupported_value", "tools")
        assert "[DONE]" not in streamed


@pytest.mark.parametrize(
    ("error", "code"),
    [(EngineError("the device is lost"), "engine_error"), (RuntimeError("x"), "server_error")],
)
@pytest.mark.parametrize("path", [PATH, "/v1/completions"])
def test_a_stream_that_fails_ends_in_words(start, monkeypatch, error, code, path):
    server = start()
    broken = Broken(error)
    monkeypatch.setattr(server.engine, "generate", lambda request: broken)
    change = {"prompt": "x", "messages": CHAT["messages"]}
    del change["messages" if path != PATH else "prompt"]
    text = server.client.post(path, json={"model": CHAT["model"], "stream": True, **change}).text
    last = json.loads(text.split("data: ")[-1])["error"]
    assert (last["code"], last["type"]) == (code, "server_error")
    assert "[DONE]" not in text and "one" in text and broken.cancelled.is_set()


@pytest.mark.parametrize("change", [{"n": 3}, {"n": 3, "stream": True}])
def test_choices_of_a_server_that_stops_do_not_look_whole(start, change):
    engine = FakeChatEngine(gate=threading.Semaphore(4))
    server = start(engine)
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(server.client.post, PATH, json={**CHAT, **change})
        while len(engine.generations) < 3:
            assert not asking.done()
            time.sleep(0.01)
        engine.close()
        answer = asking.result(timeout=10)
    assert "generation_stopped" in answer.text and "[DONE]" not in answer.text
    assert answer.status_code == (200 if change.get("stream") else 503)


def test_one_of_several_that_stops_stops_the_others():
    held = FakeGeneration(["a", "b"], 1, 5, threading.Semaphore(0))
    cut = FakeGeneration(["a", "b"], 1, 5, None)
    cut.cancel()

    async def read():
        return [piece async for piece in read_pieces([held, cut])]

    with pytest.raises(ApiError, match="stopped before its end"):
        asyncio.run(read())
    assert held.cancelled.is_set()
