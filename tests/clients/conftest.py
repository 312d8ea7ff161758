"""Clients of a running LLM server: `--server-url` and `--server-key` say which; else one on the fakes is started."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import httpx
import openai
import pytest

from tests.llm_server import FAKE, serve_llm

SECONDS = 60
"""What one test may take, its clients' imports included."""


class Server(NamedTuple):
    """Where the server is; `url` has no `/v1`."""

    url: str
    key: str

    @property
    def base_url(self) -> str:
        """What OpenAI's clients take."""
        return f"{self.url}/v1"

    @property
    def headers(self) -> dict[str, str]:
        """The key as it is sent."""
        return {"Authorization": f"Bearer {self.key}"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server-url", default=os.environ.get("LLM_SERVER_URL", ""), help="without /v1")
    parser.addoption("--server-key", default=os.environ.get("LLM_SERVER_KEY", ""))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--server-url"):
        return
    for item in items:
        if item.get_closest_marker("models") or item.get_closest_marker("training"):
            item.add_marker(pytest.mark.skip(reason="the fakes have no model: give --server-url"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that hangs fails."""

    def give_up(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"more than {limit} s")

    marker = item.get_closest_marker("training")
    limit = 5 * SECONDS if marker else SECONDS
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    url, key = pytestconfig.getoption("--server-url"), pytestconfig.getoption("--server-key")
    if url:
        yield Server(str(url).rstrip("/").removesuffix("/v1"), str(key))
        return
    with ExitStack() as stack:
        try:
            fake = stack.enter_context(serve_llm(tmp_path_factory.mktemp("server"), FAKE))
        except AssertionError as error:  # once, not for each test
            pytest.exit(f"The server did not start: {error}", returncode=1)
        yield Server(fake.url, fake.key)


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[openai.OpenAI]:
    """OpenAI's client, which asks once only: a retry would hide what the server did."""
    with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=50) as client:
        yield client


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    """Plain HTTP with the key."""
    with httpx.Client(base_url=server.url, headers=server.headers, timeout=50) as client:
        yield client


@pytest.fixture(scope="session")
def tokenize(http: httpx.Client) -> Callable[[str], list[int]]:
    """The chat model's tokens of a text."""

    def ask(text: str) -> list[int]:
        answer = http.post("/tokenize", json={"prompt": text, "add_special_tokens": False})
        answer.raise_for_status()
        tokens: list[int] = answer.json()["tokens"]
        return tokens

    return ask


@pytest.fixture
def upload(client: openai.OpenAI, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Uploads bytes as a training file and gives its id; the file is deleted afterwards."""
    ids: list[str] = []

    def send(content: bytes, name: str = "examples.jsonl") -> str:
        ids.append(client.files.create(file=(name, content), purpose="fine-tune").id)
        return ids[-1]

    yield send
    for file_id in ids:
        client.files.delete(file_id)
