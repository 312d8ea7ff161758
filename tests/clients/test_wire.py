"""Plain HTTP: what goes over the wire, byte by byte, where SDKs are not looked over the shoulder."""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from shared.contracts import LOCAL_CHAT_MODEL as MODEL
from tests.clients.conftest import Server

BODY: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Say “grüß Gott” — or 你好."}],
    "temperature": 0,
    "max_tokens": 12,
}
ERROR = {"message", "type", "param", "code"}


def test_a_stream_is_events_and_nothing_else(http: httpx.Client) -> None:
    asked = {**BODY, "stream": True, "stream_options": {"include_usage": True}}
    with http.stream("POST", "/v1/chat/completions", json=asked) as answer:
        raw = answer.read()
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert "content-length" not in answer.headers
    assert raw.endswith(b"data: [DONE]\n\n") and raw.count(b"[DONE]") == 1
    *events, done, rest = raw.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    for event in events:
        assert event.startswith(b"data: {") and b"\n" not in event and b"\r" not in event
        chunk = json.loads(event.removeprefix(b"data: "))
        assert {"id", "object", "created", "model", "choices"} <= chunk.keys()


def test_a_refused_stream_is_a_plain_error(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json={**BODY, "stream": True, "temperature": 9})
    assert answer.status_code == 400 and answer.headers["content-type"].startswith("application/json")
    assert answer.json()["error"].keys() == ERROR


def test_a_connection_goes_on_after_an_error(server: Server) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=50)
    headers = {**server.headers, "Content-Type": "application/json"}
    bad = [
        b"{",
        b"[]",
        json.dumps({**BODY, "n": -1}).encode(),
        json.dumps({**BODY, "model": "nope"}).encode(),
    ]
    connection.connect()
    used = connection.sock
    for body in bad:
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        assert answer.status in (400, 404) and json.loads(answer.read())["error"].keys() == ERROR
        assert connection.sock is used, "the server closed the connection"
    connection.request("POST", "/v1/chat/completions", json.dumps(BODY).encode(), headers)
    answer = connection.getresponse()
    assert answer.status == 200 and json.loads(answer.read())["choices"]
    assert connection.sock is used
    connection.close()


def test_an_upload_in_pieces_of_no_told_length(http: httpx.Client) -> None:
    boundary = "a-boundary"
    lines = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n' * 500

    def pieces() -> Iterator[bytes]:
        yield (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        ).encode()
        for start in range(0, len(lines), 1000):
            yield lines[start : start + 1000]
        yield f"\r\n--{boundary}--\r\n".encode()

    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = http.post("/v1/files", content=pieces(), headers=headers)
    assert answer.status_code == 200, answer.text
    file = answer.json()
    assert file["bytes"] == len(lines)
    assert http.get(f"/v1/files/{file['id']}/content").content == lines
    assert http.delete(f"/v1/files/{file['id']}").json()["deleted"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_wrong_content_type_is_refused(http: httpx.Client, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = http.post("/v1/chat/completions", content=json.dumps(BODY), headers=headers)
    if kind:
        assert answer.status_code in (400, 415) and answer.json()["error"].keys() == ERROR
    else:  # nobody said what it is; that it is read as JSON, or refused, is both right
        assert answer.status_code in (200, 400, 415)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[]", b'"a"', b"\xff\xfe", b'{"model": "\xed\xa0\x80"}', b"[" * 100_000]
)
def test_what_is_no_json_object_is_refused(http: httpx.Client, content: bytes) -> None:
    answer = http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"].keys() == ERROR


def test_a_body_of_another_length_than_told_hurts_nobody(server: Server, http: httpx.Client) -> None:
    parts = urlsplit(server.url)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {server.key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
    )
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10) as line:
        line.sendall(head.encode() + b'{"model": ')
    assert http.post("/v1/chat/completions", json=BODY).status_code == 200


def test_text_of_all_scripts_comes_back_whole(http: httpx.Client) -> None:
    """A character that is spread over tokens or events is never torn."""
    asked = {**BODY, "messages": [{"role": "user", "content": "Repeat: 🙂🙃 你好 grüß"}], "max_tokens": 24}
    whole = http.post("/v1/chat/completions", json=asked).json()["choices"][0]["message"]["content"]
    raw = http.post("/v1/chat/completions", json={**asked, "stream": True}).content
    events = [json.loads(event[6:]) for event in raw.split(b"\n\n") if event.startswith(b"data: {")]
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    assert text == whole


def test_health_needs_no_key(server: Server) -> None:
    assert httpx.get(f"{server.url}/health").status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/rerank", "/v1/completions"])
def test_an_unknown_length_is_counted_while_it_comes(http: httpx.Client, path: str) -> None:
    """A body over the limit is refused before it is all read, whether or not its length was told."""

    def endless() -> Iterator[bytes]:
        yield b'{"model": "'
        for _ in range(64):
            yield b"a" * 2**20

    try:
        answer = http.post(path, content=endless(), headers={"Content-Type": "application/json"})
    except httpx.WriteError:
        return  # it hung up on us, which is allowed
    assert answer.status_code == 413 and answer.json()["error"].keys() == ERROR


def test_keys_that_are_doubled_are_read_once(http: httpx.Client) -> None:
    text = json.dumps(BODY)[:-1] + ', "max_tokens": 2, "max_tokens": 3}'
    answer = http.post("/v1/chat/completions", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert answer.json()["usage"]["completion_tokens"] <= 3
