"""What the port of language models promises, kept by the fake and by the OpenAI client against our own server."""

import json
import math
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import uvicorn

from deployments.llm.app import create_app
from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.settings import LlmSettings
from deployments.llm.uploads import FileStore
from shared import contracts
from shared.llm.fake import FakeLlm
from shared.llm.openai import EMBEDDING_BATCH, OpenAiLlm
from shared.llm.port import Decoding, Llm, LlmError, LlmRefusedError, Message
from tests.unit.llm.conftest import fake_engines

KEY = "test-key"
MODEL = contracts.LOCAL_CHAT_MODEL
EMBEDDING_MODEL = contracts.LOCAL_EMBEDDING_MODEL
MESSAGES: list[Message] = [
    {"role": "system", "content": "You write."},
    {"role": "user", "content": "one two three"},
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our server on the fake engine, which repeats the last message as the fake provider does."""
    state: Path = tmp_path_factory.mktemp("llm")
    engine, files, jobs = FakeChatEngine(), FileStore(state / "files"), JobStore(state / "jobs")
    runner = JobRunner(
        jobs, files, engine, command=[sys.executable, "-c", ""], environment=None, emit=lambda *_: None
    )
    app = create_app(LlmSettings(), fake_engines(engine), api_key=KEY, files=files, jobs=jobs, runner=runner)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/v1"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(params=["fake", "openai"])
def llm(request: pytest.FixtureRequest, url: str) -> Llm:
    if request.param == "fake":
        return FakeLlm({MODEL: ""})
    return OpenAiLlm(url, KEY, timeout=20, max_retries=0)


def test_the_pieces_make_the_answer(llm: Llm) -> None:
    pieces = list(llm.stream_chat(MODEL, MESSAGES, Decoding(50, frequency_penalty=0.3)))
    assert len(pieces) == 3
    assert "".join(pieces) == llm.complete_chat(MODEL, MESSAGES, Decoding(50)) == "one two three"


def test_an_answer_ends_at_its_limit(llm: Llm) -> None:
    assert llm.complete_chat(MODEL, MESSAGES, Decoding(2)).split() == ["one", "two"]


def test_an_answer_can_be_left_in_the_middle(llm: Llm) -> None:
    stream = llm.stream_chat(MODEL, MESSAGES, Decoding(50))
    assert next(stream).strip() == "one"
    stream.close()  # type: ignore[attr-defined]  # every adapter is a generator
    assert list(stream) == []


def test_an_unknown_model_is_named(llm: Llm) -> None:
    with pytest.raises(LlmError, match="no-such-model"):
        llm.complete_chat("no-such-model", MESSAGES, Decoding(5))


def test_embeddings_are_unit_vectors_in_the_order_of_the_texts(llm: Llm) -> None:
    texts = [f"text {number}" for number in range(EMBEDDING_BATCH + 3)]
    vectors = llm.embed(EMBEDDING_MODEL, texts)
    assert len(vectors) == len(texts)
    assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-5) for vector in vectors)
    assert llm.embed(EMBEDDING_MODEL, texts[-1:])[0] == pytest.approx(vectors[-1], abs=1e-6)
    assert llm.embed(EMBEDDING_MODEL, []) == []


def test_texts_are_ranked_by_logits_in_their_own_order(llm: Llm) -> None:
    texts = ["a cat sleeps", "the capital of france", "of nothing"]
    assert llm.rerank(contracts.LOCAL_RERANK_MODEL, "capital of france", texts) == [-0.5, 2.5, 0.5]
    assert llm.rerank(contracts.LOCAL_RERANK_MODEL, "capital of france", []) == []


def test_a_model_that_cannot_rerank_is_refused_by_name(llm: Llm) -> None:
    with pytest.raises(LlmRefusedError, match="no-such-model"):
        llm.rerank("no-such-model", "query", ["text"])


def test_a_picture_is_a_png(llm: Llm) -> None:
    assert llm.draw(contracts.LOCAL_IMAGE_MODEL, "a lantern").startswith(b"\x89PNG")


def test_models_are_listed(llm: Llm) -> None:
    assert MODEL in llm.list_models()


def test_the_provider_says_which_models_it_knows(llm: Llm) -> None:
    assert llm.knows_model(MODEL)
    assert not llm.knows_model("ft:lost:with-the-state")
    assert not llm.knows_model("")


@pytest.fixture
def quiet_provider() -> Iterator[str]:
    """A provider that writes with `tuned`, lists only `base`, and has no page for one model.

    To the name `invalid` it answers 400, and so it does where a model can't write as little as one token (`thinker`).
    """
    refusals: dict[str, dict[str, object]] = {
        "invalid": {"error": {"message": "Invalid model: invalid", "code": 1500}},
        "thinker": {"error": {"message": "max_tokens or model output limit was reached", "code": None}},
    }

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(
                200 if self.path == "/v1/models" else 404, {"data": [{"id": "base"}], "object": "list"}
            )

        def do_POST(self) -> None:
            model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
            if refusal := refusals.get(model):
                self.answer(400, refusal)
            else:
                self.answer(200 if model == "tuned" else 404, {"id": "c", "choices": []})

        def answer(self, status: int, body: dict[str, object]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def answer_rerank(results: object) -> Iterator[OpenAiLlm]:
    """A provider whose ranking is this, whatever is asked."""

    class Provider(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps({"results": results}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield OpenAiLlm(f"http://127.0.0.1:{server.server_address[1]}/v1", KEY, max_retries=0)
        server.shutdown()


def test_the_logit_of_a_provider_that_tells_its_sigmoid() -> None:
    scores = [0.5, 1 / (1 + math.exp(-2)), 0.0, -3.5]
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    for llm in answer_rerank(results[::-1]):
        even, likely, never, bare = llm.rerank("m", "query", ["a", "b", "c", "d"])
        assert even == 0 and likely == pytest.approx(2) and bare == -3.5
        assert -25 < never < -15


@pytest.mark.parametrize(
    "results", [None, [{"index": 0, "logit": 1}], [{"index": n, "logit": "x"} for n in range(2)], "odd"]
)
def test_a_ranking_that_cannot_be_read_is_an_error_in_words(results: object) -> None:
    for llm in answer_rerank(results):
        with pytest.raises(LlmError, match="2 texts can't be read"):
            llm.rerank("m", "query", ["a", "b"])


def test_a_provider_without_reranking_is_refused(quiet_provider: str) -> None:
    with pytest.raises(LlmRefusedError, match="can't rerank with the model 'lost'"):
        OpenAiLlm(quiet_provider, KEY, max_retries=0).rerank("lost", "query", ["text"])


def test_a_model_that_a_provider_does_not_list_is_known_if_it_writes(quiet_provider: str) -> None:
    llm = OpenAiLlm(quiet_provider, KEY, max_retries=0)
    assert llm.knows_model("base")
    assert llm.knows_model("tuned")
    assert not llm.knows_model("lost")
    assert not llm.knows_model("invalid")


def test_a_refusal_of_the_question_makes_no_model_unknown(quiet_provider: str) -> None:
    with pytest.raises(LlmError, match="limit was reached"):
        OpenAiLlm(quiet_provider, KEY, max_retries=0).knows_model("thinker")


@pytest.mark.parametrize(
    ("path", "key", "port"),
    [("/v1", KEY, 9), ("/wrong/path", KEY, None), ("/v1", "wrong", None)],
    ids=["down", "another address", "a wrong key"],
)
def test_a_provider_that_cannot_say_makes_no_model_unknown(
    url: str, path: str, key: str, port: int | None
) -> None:
    address = f"http://127.0.0.1:{port}" if port else url.removesuffix("/v1")
    with pytest.raises(LlmError):
        OpenAiLlm(address + path, key, max_retries=0).knows_model(MODEL)


def test_a_wrong_key_is_refused_for_good(url: str) -> None:
    with pytest.raises(LlmRefusedError, match="llm_api_key"):
        OpenAiLlm(url, "wrong").embed(EMBEDDING_MODEL, ["text"])


def test_a_server_that_is_down_is_worth_another_try() -> None:
    with pytest.raises(LlmError, match="can't be reached") as caught:
        OpenAiLlm("http://127.0.0.1:9/v1", KEY, max_retries=0).list_models()
    assert not isinstance(caught.value, LlmRefusedError)
