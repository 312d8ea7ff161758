"""Under load: bounds, time limits, and work that ends when nobody waits for it."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn

from deployments.llm.engines.fakes import FakeChatEngine, FakeEmbeddingEngine
from deployments.llm.engines.ports import QueueFullError
from deployments.llm.work import Floor, estimate_wait
from shared import contracts
from tests.unit.llm.conftest import KEY

CHAT_PATH = "/v1/chat/completions"
CHAT = {"model": contracts.LOCAL_CHAT_MODEL, "messages": [{"role": "user", "content": "one two three four"}]}
EMBEDDING = {"model": contracts.LOCAL_EMBEDDING_MODEL, "input": "one two"}


@pytest.mark.parametrize(
    ("in_flight", "parallel", "recent", "seconds"),
    [
        (0, 4, [], 2),
        (4, 4, [8.0], 2),
        (20, 4, [8.0, 8.0, 1.0], 32),
        (20, 4, [0.01], 1),
        (500, 1, [9.0], 60),
    ],
)
def test_the_wait_is_told_by_who_waits_and_how_long_others_took(in_flight, parallel, recent, seconds):
    assert estimate_wait(in_flight, parallel, recent) == seconds


def test_a_floor_takes_so_much_and_no_more():
    floor = Floor(parallel=1, seconds=60, most=2)
    works = [floor.begin(lambda _: None) for _ in range(2)]
    with pytest.raises(QueueFullError, match="2 such requests") as caught:
        floor.begin(lambda _: None)
    assert caught.value.retry_after == 2
    assert floor.end(works[0], whole=True)
    assert not floor.end(works[0], whole=True)
    assert floor.begin(lambda _: None)
    assert floor.count == 2


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_is_ended_in_words(start, stream):
    engine = FakeChatEngine(gate=threading.Semaphore(2))
    server = start(engine, llm_request_timeout=0.1)
    answer = server.client.post(CHAT_PATH, json={**CHAT, "stream": stream})
    assert answer.status_code == (200 if stream else 504)
    assert "request_timeout" in answer.text and "0.1 s" in answer.text
    assert "[DONE]" not in answer.text
    assert engine.generations[0].cancelled.is_set()
    assert stream or answer.headers["x-should-retry"] == "false"


class HeldEmbeddings(FakeEmbeddingEngine):
    """Works once it is let; `asked` are the sizes of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.let, self.begun, self.asked = threading.Semaphore(0), threading.Semaphore(0), []

    def embed(self, model, inputs):
        self.asked.append(list(inputs))
        self.begun.release()
        assert self.let.acquire(timeout=20)
        return super().embed(model, inputs)


def test_too_many_requests_for_vectors_are_a_429(start):
    engine = HeldEmbeddings()
    server = start(embedding=engine, llm_max_embedding_queue=1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(server.client.post, "/v1/embeddings", json=EMBEDDING)
        assert engine.begun.acquire(timeout=20)
        second = server.client.post("/v1/embeddings", json=EMBEDDING)
        assert server.client.get("/v1/models").status_code == 200
        engine.let.release()
        assert first.result().status_code == 200
    assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(second.headers["Retry-After"]) >= 1


def test_many_texts_are_given_to_the_engine_a_few_at_a_time_and_keep_their_order(start):
    engine = HeldEmbeddings()
    engine.let.release(10)
    server = start(embedding=engine)
    many = [f"text {'long ' * (number % 7)}{number}" for number in range(70)]
    answer = server.client.post("/v1/embeddings", json={**EMBEDDING, "input": many}).json()
    assert [len(texts) for texts in engine.asked] == [32, 32, 6]
    plain = FakeEmbeddingEngine()
    plain.load()
    expected = plain.embed(contracts.LOCAL_EMBEDDING_MODEL, many)
    assert [item["embedding"] for item in answer["data"]] == expected.vectors
    assert answer["usage"]["prompt_tokens"] == expected.prompt_tokens


class SlowEmbeddings(FakeEmbeddingEngine):
    """Takes its time for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def embed(self, model, inputs):
        self.asked += 1
        time.sleep(0.02)
        return super().embed(model, inputs)


def test_vectors_that_take_too_long_are_ended_between_two_batches(start):
    engine = SlowEmbeddings()
    server = start(embedding=engine, llm_request_timeout=0.1)
    answer = server.client.post("/v1/embeddings", json={**EMBEDDING, "input": ["a"] * 2048})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "request_timeout")
    assert 0 < engine.asked < 64


@pytest.fixture
def address(start):
    """Serves an application on a port, where a client can really go away."""
    servers = []

    def serve(app):
        config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        wait_for(lambda: server.started)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield serve
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


def wait_for(done):
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def ask_and_leave(url, body, seen):
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}, timeout=20) as client:
        asking = asyncio.create_task(client.post(url, json=body))
        while not seen():
            assert not asking.done()
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_while_it_waits_stops_its_generation(start, address, stream, caplog):
    caplog.set_level("INFO", logger="deployments.llm")
    engine = FakeChatEngine(gate=threading.Semaphore(0))
    url = address(start(engine).client.app) + CHAT_PATH
    asyncio.run(ask_and_leave(url, {**CHAT, "stream": stream}, lambda: engine.generations))
    assert engine.generations[0].cancelled.wait(20)
    wait_for(lambda: f"POST {CHAT_PATH} 499" in caplog.text)
    assert "Traceback" not in caplog.text


def test_a_client_that_leaves_stops_the_work_on_its_vectors(start, address, caplog):
    caplog.set_level("INFO", logger="deployments.llm")
    engine = SlowEmbeddings()
    url = address(start(embedding=engine).client.app) + "/v1/embeddings"
    asyncio.run(ask_and_leave(url, {**EMBEDDING, "input": ["a"] * 2048}, lambda: engine.asked))
    wait_for(lambda: "POST /v1/embeddings 499" in caplog.text)
    assert engine.asked < 64


def test_many_who_wait_for_an_answer_leave_a_thread_for_the_others(start):
    gate = threading.Semaphore(0)
    engine = FakeChatEngine(gate=gate)
    server = start(engine, llm_max_queue=60)
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(server.client.post, CHAT_PATH, json=CHAT) for _ in range(60)]
        wait_for(lambda: len(engine.generations) == 60)
        assert server.client.get("/ready").status_code == 200
        assert server.client.get("/v1/files").status_code == 200
        gate.release(4 * 60)
        assert {answer.result().status_code for answer in waiting} == {200}
