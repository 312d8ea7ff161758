"""A real SIGTERM to a real server: what is short ends whole, what is long ends in words, what is new is turned away."""

import json
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


def begin_upload(client):
    """A connection over which half a file has been sent."""
    head = (
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="set.jsonl"\r\n\r\n'
    )
    connection = socket.create_connection(("127.0.0.1", client.base_url.port), timeout=30)
    connection.sendall(head.encode() + b"x" * 50_000)
    return connection


def test_an_upload_that_cannot_end_is_answered_in_words_and_nothing_of_it_is_kept(serve, tmp_path):
    process, client = serve(0.5)
    sent = {"file": ("large.bin", b"x" * 2**16 * 200)}  # 20 s on the slow disk
    with ThreadPoolExecutor() as pool, begin_upload(client) as half:
        whole = pool.submit(client.post, "/v1/files", files=sent, data={"purpose": "user_data"})
        wait_for(lambda: 'llm_requests_running{state="running"} 3.0' in client.get("/metrics").text)
        wait_for(lambda: list(tmp_path.glob("files/.file-*/.content.*")))
        process.send_signal(signal.SIGTERM)
        answer = b"".join(iter(lambda: half.recv(2**16), b""))
        stopped = whole.result()
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert "connection: close" in head.lower() and "retry-after: " in head.lower()
    assert json.loads(body)["error"].keys() == stopped.json()["error"].keys()
    assert json.loads(body)["error"]["code"] == "server_stopping"
    assert (stopped.status_code, stopped.json()["error"]["code"]) == (503, "server_stopping")
    assert process.wait(20) == -signal.SIGTERM
    log = (tmp_path / "log").read_text()
    assert list((tmp_path / "files").iterdir()) == []
    assert "Traceback" not in log
    assert log.count("/v1/files 503") == 2, log


def test_an_upload_that_ends_while_the_server_waits_is_kept(serve, tmp_path):
    process, client = serve(20)
    with begin_upload(client) as half:
        wait_for(lambda: 'llm_requests_running{state="running"} 2.0' in client.get("/metrics").text)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: client.get("/health").json()["status"] == "stopping")
        form = b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b--\r\n'
        head = len('--b\r\nContent-Disposition: form-data; name="file"; filename="set.jsonl"\r\n\r\n')
        half.sendall(b"x" * (50_000 - head - len(form)) + form)
        answer = half.recv(2**16).decode()
    assert answer.startswith("HTTP/1.1 200 ")
    assert process.wait(20) == -signal.SIGTERM
    assert len(list((tmp_path / "files").iterdir())) == 1


def test_an_idle_server_stops_at_once_and_closes_its_connections(serve):
    process, client = serve(600)
    assert client.get("/health").status_code == 200
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    with pytest.raises(httpx.TransportError):
        client.get("/health")
