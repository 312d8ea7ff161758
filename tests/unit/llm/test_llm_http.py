"""The OpenAI-shaped routes over the fake engine."""

import asyncio
import base64
import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
from PIL import Image

from deployments.llm.api.chat_requests import ChatBody
from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.engines.ports import GenerationRequest, NotReadyError, QueueFullError
from deployments.llm.routes.chat import stream_chunks
from deployments.llm.uploads import FileStore
from shared import contracts
from tests.asgi_call import Call
from tests.unit.llm.conftest import KEY

SIGNED_IN = {"Authorization": f"Bearer {KEY}".encode()}
CHAT = {"model": contracts.LOCAL_CHAT_MODEL, "messages": [{"role": "user", "content": "one two three four"}]}
CHAT_PATH = "/v1/chat/completions"
OTHER_MODELS = (
    contracts.LOCAL_EMBEDDING_MODEL,
    "fake-matryoshka",
    contracts.LOCAL_RERANK_MODEL,
    contracts.LOCAL_IMAGE_MODEL,
)


def test_a_wrong_key_is_turned_away_everywhere_but_at_health(server):
    for value in ("Bearer wrong", "", "test-key"):
        answer = server.client.post(CHAT_PATH, json=CHAT, headers={"Authorization": value})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert server.client.get("/health", headers={"Authorization": ""}).status_code == 200


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/files", "/v1/fine_tuning/jobs", "/v1/nothing", "/"])
def test_without_the_key_a_body_is_neither_read_nor_judged(server, path):
    sixty_megabytes = (b"{" * 2**20 for _ in range(60))
    sent = {"Content-Type": b"application/json", "Transfer-Encoding": b"chunked"}
    call = Call(server.client.app, path, sixty_megabytes, sent)
    assert (call.status, call.taken) == (401, 0)
    assert json.loads(call.body)["error"]["code"] == "invalid_api_key"
    assert server.client.post(path, content=b"{", headers={"Authorization": ""}).status_code == 401


def test_a_key_with_letters_beyond_ascii_is_known(start):
    server = start(api_key="schlüssel")
    for key, status in (("schlüssel".encode(), 200), ("schlüssel".encode("latin-1"), 401)):
        assert (
            Call(
                server.client.app, "/v1/models", headers={"Authorization": b"Bearer " + key}, method="GET"
            ).status
            == status
        )


@pytest.mark.parametrize("sent", [{"Content-Length": b"1001"}, {"Transfer-Encoding": b"chunked"}])
def test_a_body_that_is_too_long_is_a_413_and_not_read_to_its_end(start, sent):
    server = start(llm_max_body_bytes=1000)
    call = Call(server.client.app, CHAT_PATH, (b" " * 300 for _ in range(100)), {**SIGNED_IN, **sent})
    assert call.status == 413 and call.taken in (0, 1200)
    error = json.loads(call.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "request_too_large" and "1000 bytes" in error["message"]
    assert server.client.post(CHAT_PATH, json=CHAT).status_code == 200


def upload(server, pieces):
    """Sends a file in pieces that are made as they are asked for."""

    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="set.jsonl"\r\n\r\n'
        yield from pieces
        yield b"\r\n--x--\r\n"

    sent = {"Content-Type": b"multipart/form-data; boundary=x", "Transfer-Encoding": b"chunked"}
    return Call(server.client.app, "/v1/files", body(), {**SIGNED_IN, **sent})


def test_an_upload_is_counted_while_it_is_read(start):
    server = start(llm_max_file_bytes=100_000, llm_max_body_bytes=1000)
    assert upload(server, [b"a" * 50_000] * 2).status == 200
    for pieces in ([b"a" * 50_000, b"a" * 50_001], (b"a" * 50_000 for _ in range(2000))):
        call = upload(server, pieces)
        assert (call.status, json.loads(call.body)["error"]["type"]) == (413, "invalid_request_error")
        assert call.taken < 300_000
    assert upload(server, []).status == 400
    assert [file["bytes"] for file in server.client.get("/v1/files").json()["data"]] == [100_000]


def test_an_upload_is_never_whole_in_memory(server):
    piece = b"a" * 2**16
    tracemalloc.start()
    try:
        call = upload(server, (piece for _ in range(320)))  # 20 MiB
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    file = json.loads(call.body)
    assert (call.status, file["bytes"]) == (200, 320 * 2**16)
    assert peak < 8 * 2**20
    assert len(server.client.get(f"/v1/files/{file['id']}/content").content) == 320 * 2**16


def test_an_upload_that_cannot_be_kept_leaves_nothing(tmp_path):
    class Torn(io.BytesIO):
        def read(self, *_):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        FileStore(tmp_path).add(Torn(), "set.jsonl", "fine-tune")
    assert list(tmp_path.iterdir()) == []


def test_the_server_does_not_start_without_a_key_where_others_could_reach_it(tmp_path):
    environment = {**os.environ, "GHOSTWRITER_LLM_HOST": "0.0.0.0", "GHOSTWRITER_SECRETS_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "deployments.llm"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert str(tmp_path / "llm_api_key") in done.stderr and "GHOSTWRITER_LLM_HOST" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_log_has_a_line_for_each_request_and_no_text(server, caplog):
    caplog.set_level("INFO", logger="deployments.llm")
    server.client.post(CHAT_PATH, json=CHAT)
    server.client.get("/v1/no%0Athing", params={"secret": "one"})
    server.client.get("/v1/models/a-private-name")
    server.client.get("/health")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("deployments")]
    assert [re.sub(r"\d+ ms", "N ms", line) for line in lines] == [
        f"POST {CHAT_PATH} 200 N ms key=default model={contracts.LOCAL_CHAT_MODEL} tokens=4+4",
        "GET /v1/no%0Athing 404 N ms key=default",
        "GET /v1/models/{model_id} 404 N ms key=default",
    ]


def test_models(server):
    ids = [model["id"] for model in server.client.get("/v1/models").json()["data"]]
    assert ids == [contracts.LOCAL_CHAT_MODEL, *OTHER_MODELS]
    assert server.client.get(f"/v1/models/{ids[0]}").json()["id"] == ids[0]
    missing = server.client.get("/v1/models/nope")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_models_tell_how_much_they_take(server):
    limits = {m["id"]: m.get("max_model_len") for m in server.client.get("/v1/models").json()["data"]}
    assert limits == {
        contracts.LOCAL_CHAT_MODEL: 200,
        **dict.fromkeys(OTHER_MODELS),
    }


def test_messages_are_counted_as_an_answer_counts_them(server):
    used = server.client.post(CHAT_PATH, json=CHAT).json()["usage"]["prompt_tokens"]
    answer = server.client.post("/tokenize", json={**CHAT, "add_generation_prompt": True})
    assert answer.json() == {"count": used, "max_model_len": 200}
    assert server.client.post("/tokenize", json={"messages": []}).status_code == 400
    assert server.client.post("/tokenize", json=CHAT, headers={"Authorization": ""}).status_code == 401


def test_an_answer_with_usage(server):
    body = server.client.post(CHAT_PATH, json=CHAT).json()
    assert body["choices"][0]["message"]["content"] == "one two three four"
    assert body["choices"][0]["finish_reason"] == "stop"
    usage = {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}
    assert body["usage"] == {**usage, "prompt_tokens_details": {"cached_tokens": 0}}


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_is_cut_at_its_limit(server, name):
    choice = server.client.post(CHAT_PATH, json={**CHAT, name: 2}).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")


def test_without_a_limit_an_answer_is_cut_at_the_default(start):
    server = start(FakeChatEngine(default_max_tokens=3))
    choice = server.client.post(CHAT_PATH, json={**CHAT, "frequency_penalty": 2}).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two three", "length")


def test_a_stream_carries_the_same_text_and_ends_with_usage(server):
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}, "stop": " four"}
    text = server.client.post(CHAT_PATH, json=body).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    deltas = [event["choices"][0]["delta"].get("content", "") for event in events if event["choices"]]
    assert "".join(deltas) == "one two three"
    assert events[-1]["usage"]["completion_tokens"] == 3
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert text.endswith("data: [DONE]\n\n")


def test_an_abandoned_stream_stops_its_generation():
    engine = FakeChatEngine(gate=threading.Semaphore(1))
    engine.load()
    generation = engine.generate(GenerationRequest(contracts.LOCAL_CHAT_MODEL, CHAT["messages"]))

    async def read_a_little():
        events = stream_chunks([generation], ChatBody(**CHAT), {"id": "x"})
        await anext(events)
        await anext(events)
        await events.aclose()

    asyncio.run(read_a_little())
    assert generation.cancelled.is_set()


@pytest.mark.parametrize("stream", [False, True])
def test_half_an_answer_of_a_server_that_stops_does_not_look_whole(start, stream):
    engine = FakeChatEngine(gate=threading.Semaphore(2))
    server = start(engine)
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(server.client.post, CHAT_PATH, json={**CHAT, "stream": stream})
        while not engine.generations:
            assert not asking.done()
            time.sleep(0.01)
        engine.close()
        answer = asking.result(timeout=10)
    assert "generation_stopped" in answer.text
    assert "[DONE]" not in answer.text
    assert answer.status_code == (200 if stream else 503)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "nope"}, 404, "model_not_found"),
        ({"messages": [{"role": "user", "content": "word " * 300}]}, 400, "context_length_exceeded"),
        ({"max_tokens": 500}, 400, "context_length_exceeded"),
        ({"messages": []}, 400, None),
        ({"temperature": 3}, 400, None),
        ({"frequency_penalty": 2.1}, 400, None),
        ({"presence_penalty": -2.1}, 400, None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, None),
    ],
)
def test_bad_requests_are_answered_in_openais_shape(server, change, status, code):
    answer = server.client.post(CHAT_PATH, json={**CHAT, **change})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code and error["message"]


def test_a_model_that_is_not_in_memory_yet_is_a_503_with_the_time_to_come_again(server, monkeypatch):
    error = NotReadyError("The model ft:x is not in memory.")
    error.retry_after = 7
    monkeypatch.setattr(server.engine, "generate", Mock(side_effect=error))
    answer = server.client.post(CHAT_PATH, json=CHAT)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.json()["error"]["code"] == "model_loading"


def test_a_full_queue_is_a_429(start):
    answer = start(FakeChatEngine(max_queue=0)).client.post(CHAT_PATH, json=CHAT)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")


def test_a_tokenizer_that_is_busy_with_large_texts_is_a_429(server, monkeypatch):
    def refuse(_):
        raise QueueFullError("Other texts are being read; try again in a moment.")

    monkeypatch.setattr(server.engine, "tokenize", refuse)
    answer = server.client.post("/tokenize", json={"prompt": "one"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"


def test_an_unknown_path_is_answered_in_openais_shape(server):
    answer = server.client.get("/v1/nothing")
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")


def test_embeddings_as_numbers_and_as_base64_are_the_same(server):
    def embed(**change):
        body = {"model": contracts.LOCAL_EMBEDDING_MODEL, "input": ["a", "b"], **change}
        return server.client.post("/v1/embeddings", json=body)

    numbers = [item["embedding"] for item in embed().json()["data"]]
    for vector, item in zip(numbers, embed(encoding_format="base64").json()["data"], strict=True):
        assert struct.unpack("<8f", base64.b64decode(item["embedding"])) == pytest.approx(vector)
    assert numbers[0] != numbers[1]
    assert embed(input="b").json()["data"][0]["embedding"] == numbers[1]
    assert embed(model="x").status_code == 404
    assert embed(input=[]).status_code == 400
    assert embed(dimensions=3).json()["error"]["param"] == "dimensions"


def test_an_image_has_its_size_and_depends_on_the_words_alone(server):
    def draw(prompt, size="512x512"):
        answer = server.client.post("/v1/images/generations", json={"prompt": prompt, "size": size})
        return base64.b64decode(answer.json()["data"][0]["b64_json"])

    first = draw("A promise, not a file check")
    assert Image.open(io.BytesIO(first)).size == (512, 512)
    assert Image.open(io.BytesIO(draw("Wide " * 60, "1536x1024"))).size == (1536, 1024)
    assert first == draw("A promise, not a file check")
    assert first != draw("Another")
    assert first == draw("A promise, not a file check\n\nStyle: dark ink"), (
        "the card shows its own style prompt"
    )
    refused = server.client.post("/v1/images/generations", json={"prompt": "x", "size": "3x3"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "size")


def test_files_come_back_as_they_were_sent(server):
    content = b'{"messages": []}\n'
    sent = {"file": ("set.jsonl", content)}
    file = server.client.post("/v1/files", files=sent, data={"purpose": "user_data"}).json()
    assert (file["filename"], file["bytes"], file["purpose"]) == ("set.jsonl", len(content), "user_data")
    assert server.client.get(f"/v1/files/{file['id']}/content").content == content
    assert [item["id"] for item in server.client.get("/v1/files").json()["data"]] == [file["id"]]
    assert server.client.delete(f"/v1/files/{file['id']}").json()["deleted"] is True
    assert server.client.get(f"/v1/files/{file['id']}").status_code == 404
    assert server.client.post("/v1/files", files=sent, data={"purpose": "other"}).status_code == 400


def test_a_file_deleted_twice_at_once_is_deleted_once(tmp_path):
    files = FileStore(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            file = files.add(io.BytesIO(b"x"), "set.jsonl", "fine-tune")
            assert sorted(pool.map(files.delete, [file.id] * 4)) == [False, False, False, True]
