"""Odd training files over HTTP: refused on upload with the line, or borne; the server answers afterwards."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from shared.contracts import LOCAL_CHAT_MODEL as MODEL

LINE = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


@pytest.fixture(autouse=True)
def still_answers(http: httpx.Client) -> Iterator[None]:
    yield
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "One"}], "max_tokens": 1}
    assert http.post("/v1/chat/completions", json=asked).status_code == 200


def send(http: httpx.Client, content: bytes) -> httpx.Response:
    return http.post("/v1/files", files={"file": ("a.jsonl", content)}, data={"purpose": "fine-tune"})


def follow(http: httpx.Client, content: bytes) -> str:
    """Uploads and orders; the refusal, at upload or as the job's error, or the status it came to."""
    answer = send(http, content)
    if answer.status_code != 200:
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == "file"
        return str(answer.json()["error"]["message"])
    file_id = answer.json()["id"]
    created = http.post("/v1/fine_tuning/jobs", json={"model": MODEL, "training_file": file_id})
    try:
        if created.status_code != 200:
            assert created.status_code == 400, created.text
            return str(created.json()["error"]["message"])
        path = f"/v1/fine_tuning/jobs/{created.json()['id']}"
        end = time.monotonic() + 40
        while (job := http.get(path).json())["status"] == "validating_files":
            assert time.monotonic() < end, "never validated"
            time.sleep(0.1)
        if job["status"] == "failed":
            return str(job["error"]["message"])
        return str(job["status"])
    finally:
        if created.status_code == 200:
            http.post(f"/v1/fine_tuning/jobs/{created.json()['id']}/cancel")
        http.delete(f"/v1/files/{file_id}")


TAKEN = ("queued", "running")
GOOD = {
    "ten lines": "\n".join([LINE] * 10),
    "lines that end as Windows ends them": "\r\n".join([LINE] * 10) + "\r\n",
    "a mark of the byte order": "\ufeff" + "\n".join([LINE] * 10),
    "empty lines between": "\n\n".join([LINE] * 10) + "\n\n\n",
    "separators that are no line ends": "\n".join([LINE.replace('"a"', '"a\u2028b\x85c"')] * 10),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_taken(http: httpx.Client, name: str) -> None:
    assert follow(http, GOOD[name].encode()) in TAKEN


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b"\xef\xbb\xbf", b" "])
def test_a_file_without_a_line_is_refused(http: httpx.Client, content: bytes) -> None:
    assert follow(http, content) not in TAKEN


def test_a_file_of_one_line_is_taken_or_refused_in_words(http: httpx.Client) -> None:
    said = follow(http, LINE.encode())
    assert said in TAKEN or "example" in said.lower()


BAD = {
    "not JSON": "{",
    "NUL": "\x00",
    "NUL in a text": LINE.replace('"a"', '"a\x00b"'),
    "a list": "[]",
    "a number": "7",
    "no messages": "{}",
    "no list": '{"messages": "a"}',
    "no turn": '{"messages": []}',
    "an odd role": LINE.replace('"user"', '"wizard"'),
    "no text": LINE.replace('"a"', "7"),
    "no answer": LINE.replace('"assistant"', '"user"'),
    "an empty answer": LINE.replace('"b"', '""'),
    "a key twice": LINE[:-1] + ', "messages": []}',
    "a role twice": LINE.replace('"role": "user"', '"role": "user", "role": "system"'),
    "NaN": LINE[:-1] + ', "weight": NaN}',
    "very deep": "[" * 50_000,
    "half a surrogate": LINE.replace('"a"', '"\\ud800"'),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_named(http: httpx.Client, name: str) -> None:
    content = "\n".join([LINE] * 10 + [BAD[name]] + [LINE] * 2)
    said = follow(http, content.encode())
    assert said not in TAKEN
    assert "11" in said, said


def test_bytes_that_are_no_text_are_named(http: httpx.Client) -> None:
    said = follow(http, b"\n".join([LINE.encode()] * 10) + b"\n\xff\xfe\n")
    assert said not in TAKEN and "11" in said


def test_an_example_longer_than_the_context_is_named(http: httpx.Client) -> None:
    long = LINE.replace('"b"', json.dumps("word " * 20_000))
    said = follow(http, "\n".join([LINE] * 10 + [long]).encode())
    assert said not in TAKEN and "11" in said and "token" in said


def test_fifty_thousand_lines_are_taken(http: httpx.Client) -> None:
    started = time.monotonic()
    assert follow(http, "\n".join([LINE] * 50_000).encode()) in TAKEN
    assert time.monotonic() - started < 50


def test_the_last_of_fifty_thousand_lines_is_looked_at(http: httpx.Client) -> None:
    said = follow(http, "\n".join([LINE] * 49_999 + ["{"]).encode())
    assert said not in TAKEN and "50000" in said.replace(",", "").replace("\u202f", "")
