"""Clients that hold on: many connections, a byte at a time, answers that nobody reads. Others must be answered."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Final

import httpx
import pytest

from shared import contracts
from tests.llm_server import FAKE, LLM_PYTHON, LlmServer, serve_llm

pytestmark = pytest.mark.skipif(not LLM_PYTHON.exists(), reason="no .venv-llm: `make install` makes it")

MOST: Final = 16
AT_WORK: Final = 14
"""Seven eighths of them may have a request."""
LIMIT: Final = 1
"""Seconds for a head, for a body, for a client that reads nothing."""
WORDS_PER_SECOND: Final = 100
LONG: Final = 1000
"""Words of a question and of its answer, which takes ten seconds."""
PATIENCE: Final = 30
CHAT_PATH: Final = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    limits = {
        "llm_max_connections": MOST,
        "llm_head_timeout": LIMIT,
        "llm_body_timeout": LIMIT,
        "llm_send_timeout": LIMIT,
    }
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("FAKE_WORDS_PER_SECOND", str(WORDS_PER_SECOND))
        yield stack.enter_context(serve_llm(tmp_path_factory.mktemp("llm"), FAKE, **limits))


@pytest.fixture
def connect(server: LlmServer) -> Iterator[Callable[..., socket.socket]]:
    """Opens a connection, with little room for what comes where `narrow`; all are closed in the end."""
    opened: list[socket.socket] = []

    def connect(narrow: bool = False) -> socket.socket:
        connection = socket.socket()
        opened.append(connection)
        if narrow:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        connection.settimeout(PATIENCE)
        url = httpx.URL(server.url)
        connection.connect((url.host, url.port))
        return connection

    yield connect
    for connection in opened:
        connection.close()


def write_head(server: LlmServer, method: str, path: str, *headers: str) -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {server.key}", *headers)
    return "\r\n".join((*lines, "", "")).encode()


def ask_for(words: int, stream: bool, **more: object) -> bytes:
    message = {"role": "user", "content": "word " * words}
    return json.dumps(
        {"model": contracts.LOCAL_CHAT_MODEL, "messages": [message], "stream": stream, **more}
    ).encode()


def write_request(server: LlmServer, body: bytes, path: str = CHAT_PATH, *headers: str) -> bytes:
    length, kind = f"Content-Length: {len(body)}", "Content-Type: application/json"
    return write_head(server, "POST", path, length, kind, *headers) + body


def has_ended(connection: socket.socket) -> bool:
    """Whether the server has closed it; what it sent before is read."""
    connection.setblocking(False)
    try:
        while True:
            if not connection.recv(65536):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def drip(connection: socket.socket, piece: bytes) -> None:
    """Sends a piece now and then until the server has had enough."""
    end = time.monotonic() + PATIENCE
    while not has_ended(connection):
        assert time.monotonic() < end, "the server goes on listening"
        connection.setblocking(True)
        with suppress(OSError):
            connection.sendall(piece)
        time.sleep(LIMIT / 10)  # it is slow on purpose


def wait_for(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)


def read_metric(server: LlmServer, sample: str) -> float:
    answer = httpx.get(
        f"{server.url}/metrics", headers={"Authorization": f"Bearer {server.key}"}, timeout=PATIENCE
    )
    assert answer.status_code == 200
    found = re.search(rf"^{re.escape(sample)} (\S+)$", answer.text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def closed_for(server: LlmServer, reason: str) -> float:
    return read_metric(server, f'llm_connections_closed_total{{reason="{reason}"}}')


def test_whoever_only_connects_makes_room_for_others(
    server: LlmServer, connect: Callable[..., socket.socket]
) -> None:
    before = closed_for(server, "crowded")
    idle = [connect() for _ in range(8 * MOST)]
    for path in ("/health", "/ready"):
        assert httpx.get(server.url + path, timeout=PATIENCE).status_code == 200
    assert closed_for(server, "crowded") > before
    wait_for(lambda: all(has_ended(connection) for connection in idle))
    assert read_metric(server, 'llm_connections{state="open"}') == 1  # the scrape's own
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("start", [b"", b"G"])
def test_a_head_that_does_not_come_is_not_waited_for(
    server: LlmServer, connect: Callable[..., socket.socket], start: bytes
) -> None:
    before = closed_for(server, "head")
    connection = connect()
    connection.sendall(start)
    assert connection.recv(1) == b""
    assert closed_for(server, "head") == before + 1


def test_a_head_that_comes_a_byte_at_a_time_is_not_waited_for(
    server: LlmServer, connect: Callable[..., socket.socket]
) -> None:
    before = closed_for(server, "head")
    connection = connect()
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: ")
    drip(connection, b"x")
    assert closed_for(server, "head") == before + 1


def test_a_second_head_has_its_time_too(server: LlmServer, connect: Callable[..., socket.socket]) -> None:
    before = closed_for(server, "head")
    connection = connect()
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    drip(connection, b"x")
    assert closed_for(server, "head") == before + 1


def test_a_body_that_comes_a_byte_at_a_time_is_not_waited_for(
    server: LlmServer, connect: Callable[..., socket.socket]
) -> None:
    before = closed_for(server, "body")
    connection = connect()
    connection.sendall(write_head(server, "POST", CHAT_PATH, "Content-Length: 100000"))
    drip(connection, b"x")
    assert closed_for(server, "body") == before + 1
    wait_for(lambda: read_metric(server, 'llm_requests_running{state="running"}') == 1)  # the scrape
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("piece", [b"1\r\nx\r\n", b"8000\r\n" + b"x" * 0x8000 + b"\r\n"])
def test_a_body_that_nobody_asked_for_ends(
    server: LlmServer, connect: Callable[..., socket.socket], piece: bytes
) -> None:
    before = closed_for(server, "body")
    connection = connect()
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(connection, piece)
    assert closed_for(server, "body") == before + 1


def test_a_long_body_that_comes_steadily_is_taken(server: LlmServer) -> None:
    def pieces() -> Iterator[bytes]:
        body = ask_for(3, stream=False)
        yield body[:-1]
        end = time.monotonic() + 3 * LIMIT
        while time.monotonic() < end:
            time.sleep(LIMIT / 4)
            yield b" " * 65536
        yield body[-1:]

    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    answer = httpx.post(server.url + CHAT_PATH, content=pieces(), headers=headers, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text


def test_where_all_have_work_the_next_is_told_to_come_again(
    server: LlmServer, connect: Callable[..., socket.socket]
) -> None:
    long = write_request(server, ask_for(LONG, stream=False))
    workers = [connect() for _ in range(AT_WORK)]
    for worker in workers:
        worker.sendall(long)

    def ask() -> httpx.Response:
        headers = {"Authorization": f"Bearer {server.key}"}
        return httpx.get(f"{server.url}/v1/models", headers=headers, timeout=PATIENCE)

    wait_for(lambda: ask().status_code == 503)
    refused = ask()
    assert refused.json()["error"]["code"] == "too_many_requests" and int(refused.headers["Retry-After"]) > 0
    assert httpx.get(f"{server.url}/health", timeout=PATIENCE).status_code == 200
    assert not any(has_ended(worker) for worker in workers)
    for worker in workers:
        worker.close()
    wait_for(lambda: ask().status_code == 200)


def test_an_answer_that_nobody_reads_ends_with_its_generation(
    server: LlmServer, connect: Callable[..., socket.socket]
) -> None:
    sample = f'llm_generations_total{{end="ClientGoneError",model="{contracts.LOCAL_CHAT_MODEL}"}}'
    before, ended = closed_for(server, "answer"), read_metric(server, sample)
    reader = connect(narrow=True)
    reader.sendall(write_request(server, ask_for(LONG, stream=True, logprobs=True, top_logprobs=20, n=4)))
    wait_for(lambda: closed_for(server, "answer") == before + 1)
    wait_for(lambda: read_metric(server, sample) == ended + 4)
    assert read_metric(server, 'llm_work{kind="chat"}') == 0
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("last", [False, True])
def test_the_rest_of_an_answer_that_nobody_reads_is_given_up(
    server: LlmServer, connect: Callable[..., socket.socket], last: bool
) -> None:
    before = closed_for(server, "answer")
    body = json.dumps({"model": contracts.LOCAL_EMBEDDING_MODEL, "input": ["some text"] * 2048}).encode()
    header = f"Connection: {'close' if last else 'keep-alive'}"
    connect(narrow=True).sendall(write_request(server, body, "/v1/embeddings", header))
    wait_for(lambda: closed_for(server, "answer") == before + 1)


def test_who_reads_slowly_gets_the_whole(server: LlmServer, connect: Callable[..., socket.socket]) -> None:
    before, size = closed_for(server, "answer"), 2**20
    headers = {"Authorization": f"Bearer {server.key}"}
    form = {"files": {"file": ("some.txt", b"x" * size)}, "data": {"purpose": "user_data"}}
    kept = httpx.post(f"{server.url}/v1/files", **form, headers=headers, timeout=PATIENCE).json()  # type: ignore[arg-type]
    reader = connect(narrow=True)
    reader.sendall(write_head(server, "GET", f"/v1/files/{kept['id']}/content", "Connection: close"))
    received, end = 0, time.monotonic() + PATIENCE
    while piece := reader.recv(65536):
        received += len(piece)
        assert time.monotonic() < end
        time.sleep(0.005)  # it is slow on purpose
    assert received > size
    assert closed_for(server, "answer") == before


def test_an_answer_may_take_longer_than_a_client_may_pause(server: LlmServer) -> None:
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    words = ask_for(2 * LIMIT * WORDS_PER_SECOND, stream=True)
    answer = httpx.post(server.url + CHAT_PATH, content=words, headers=headers, timeout=PATIENCE)
    assert answer.text.endswith("data: [DONE]\n\n")


def test_the_log_tells_which_limit_was_met(server: LlmServer, connect: Callable[..., socket.socket]) -> None:
    assert connect().recv(1) == b""
    assert f"a request's head took longer than {LIMIT} s" in server.log.read_text()
