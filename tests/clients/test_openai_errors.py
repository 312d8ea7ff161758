"""OpenAI's SDK: each refusal arrives as the class that a client expects, and is asked again where that helps."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from shared.contracts import LOCAL_CHAT_MODEL as MODEL
from tests.clients.conftest import Server
from tests.llm_server import FAKE, serve_llm

ASK: list[Any] = [{"role": "user", "content": "Count from one to one thousand, in words. " * 20}]


@pytest.mark.parametrize("key", ["wrong", "wrong" * 500, "Bearer"])
def test_a_wrong_key(server: Server, key: str) -> None:
    stranger = openai.OpenAI(base_url=server.base_url, api_key=key, max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.models.list()
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
    assert server.key not in str(caught.value)


def test_no_key(server: Server) -> None:
    for path in ("/v1/models", "/v1/nowhere", "/metrics"):
        answer = httpx.get(f"{server.url}{path}")
        assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key", path


@pytest.mark.parametrize("role", ["chat", "completions", "responses", "embeddings"])
def test_a_model_that_is_not_there(client: openai.OpenAI, role: str) -> None:
    ask = {
        "chat": lambda: client.chat.completions.create(model="nope", messages=ASK),
        "completions": lambda: client.completions.create(model="nope", prompt="a"),
        "responses": lambda: client.responses.create(model="nope", input="a"),
        "embeddings": lambda: client.embeddings.create(model="nope", input="a"),
    }[role]
    with pytest.raises(openai.NotFoundError) as caught:
        ask()
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.type == "invalid_request_error"


def test_a_model_of_another_role(client: openai.OpenAI) -> None:
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as caught:
        client.embeddings.create(model=MODEL, input="a")
    assert caught.value.param == "model"


def test_a_bad_value_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=ASK, temperature=9)
    assert caught.value.param == "temperature" and caught.value.type == "invalid_request_error"
    assert isinstance(caught.value.body, dict) and caught.value.body.keys() == {
        "message",
        "type",
        "param",
        "code",
    }


def test_a_path_that_is_not_there(http: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/v1/nowhere", 404),
        ("PUT", "/v1/models", 405),
        ("GET", "/nowhere", 404),
    ):
        answer = http.request(method, path)
        assert answer.status_code == status
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


class Crowd:
    """Streams that are not read until the queue is full; a release lets them all go."""

    def __init__(self, client: openai.OpenAI) -> None:
        self.client, self.streams = client, list[Any]()
        self.refusal: openai.RateLimitError | None = None

    def gather(self) -> None:
        for _ in range(200):
            try:
                asked = {"model": MODEL, "messages": ASK, "max_tokens": 900, "logit_bias": {}}
                stream = self.client.chat.completions.create(**asked, stream=True)  # type: ignore[call-overload]
                self.streams.append(stream)
            except openai.RateLimitError as error:
                self.refusal = error
                return

    def release(self) -> None:
        for stream in self.streams:
            stream.close()
        self.streams.clear()


@pytest.fixture
def crowd(server: Server) -> Iterator[Crowd]:
    limits = httpx.Limits(max_connections=300)
    with httpx.Client(limits=limits, timeout=50) as connections:
        client = openai.OpenAI(
            base_url=server.base_url, api_key=server.key, max_retries=0, http_client=connections
        )
        crowd = Crowd(client)
        yield crowd
        crowd.release()


@pytest.mark.models
def test_a_full_queue_is_a_rate_limit_and_a_client_comes_back(server: Server, crowd: Crowd) -> None:
    crowd.gather()
    assert crowd.refusal is not None, "200 streams at once were all taken"
    assert crowd.refusal.code == "rate_limit_exceeded"
    assert 0 < float(crowd.refusal.response.headers["Retry-After"]) <= 60
    threading.Timer(1, crowd.release).start()
    with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=8, timeout=50) as patient:
        asked: list[Any] = [{"role": "user", "content": "Hello"}]
        raw = patient.chat.completions.with_raw_response.create(model=MODEL, messages=asked, max_tokens=2)
    assert raw.parse().choices[0].message.content is not None
    assert raw.retries_taken >= 1


def test_a_server_that_loads_says_so_and_when_to_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "FAKE_LOADING", "1")
    with serve_llm(tmp_path, FAKE, wait=False) as loading:
        client = openai.OpenAI(base_url=f"{loading.url}/v1", api_key=loading.key, max_retries=0)
        for _ in range(200):
            try:
                client.models.list()
                break
            except openai.APIConnectionError:
                time.sleep(0.1)
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=MODEL, messages=ASK)
        assert caught.value.status_code == 503 and float(caught.value.response.headers["Retry-After"]) > 0
        with pytest.raises(openai.InternalServerError) as caught:
            client.with_options(max_retries=1).chat.completions.create(model=MODEL, messages=ASK)
        assert caught.value.response.request.headers["x-stainless-retry-count"] == "1"
