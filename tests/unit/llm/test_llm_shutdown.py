"""A real SIGTERM to a real server: what is short ends whole, what is long ends in words, what is new is turned away."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from shared import contracts
from tests.unit.llm.conftest import KEY

CHAT_PATH = "/v1/chat/completions"
SHORT, LONG = "word " * 12, "word " * 45_000


@pytest.fixture
def serve(tmp_path):
    """Starts the server with so many seconds to end in, and gives its process and a client."""
    started = []

    def serve(seconds):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "tests.unit.llm.serve_fakes",
            str(port),
            str(tmp_path),
            str(seconds),
        ]
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen(command, stderr=log, env=os.environ)
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30
        )
        started.append((process, client))
        wait_for(lambda: is_ready(client))
        return process, client

    yield serve
    for process, client in started:
        client.close()
        process.kill()
        process.wait()


def is_ready(client):
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def wait_for(done):
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def chat(text, stream):
    message = {"role": "user", "content": text}
    return {"model": contracts.LOCAL_CHAT_MODEL, "messages": [message], "stream": stream}


def test_a_stop_lets_what_is_short_end_and_ends_the_rest_in_words(serve, tmp_path):
    process, client = serve(1.5)
    many = {"model": contracts.LOCAL_EMBEDDING_MODEL, "input": ["text"] * 2048}
    with ThreadPoolExecutor() as pool:
        long = [pool.submit(client.post, CHAT_PATH, json=chat(LONG, stream)) for stream in (True, False)]
        vectors = pool.submit(client.post, "/v1/embeddings", json=many)

        def runs(number):
            return f'llm_requests_running{{state="running"}} {number}.0' in client.get("/metrics").text

        wait_for(lambda: runs(4))  # the scrape is one of them
        short = pool.submit(client.post, CHAT_PATH, json=chat(SHORT, True))
        wait_for(lambda: runs(5) or short.done())
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get("/health").json()["status"] == "stopping")
        new = client.post(CHAT_PATH, json=chat(SHORT, False))
        ready = client.get("/ready")
        answers = [answer.result() for answer in (*long, vectors, short)]
    stream, whole, vectors, short = answers
    assert (new.status_code, new.json()["error"]["code"]) == (503, "server_stopping")
    assert int(new.headers["Retry-After"]) > 0
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["the server is stopping"])
    assert short.text.endswith("data: [DONE]\n\n")
    assert stream.status_code == 200 and "[DONE]" not in stream.text
    assert "server_stopping" in stream.text.splitlines()[-2]
    for answer in (whole, vectors):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_stopping")
    assert process.wait(20) == -signal.SIGTERM
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log and "3 requests are ended before their time" in log


def test_an_idle_server_stops_at_once_and_closes_its_connections(serve):
    process, client = serve(600)
    assert client.get("/health").status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    with pytest.raises(httpx.TransportError):
        client.get("/health")
