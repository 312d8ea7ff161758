"""A guard is an engine like the one behind it, and what it adds: bounds, and a count of what was read and written."""

from contextvars import copy_context
from pathlib import Path
from unittest.mock import Mock

import pytest

from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.engines.ports import EngineError, GenerationRequest, QueueFullError
from deployments.llm.guards.guarded import guard_engines
from deployments.llm.metrics import Metrics
from deployments.llm.settings import LlmSettings
from deployments.llm.work import build_floors
from shared import contracts
from tests.unit.llm.conftest import fake_engines
from tests.unit.llm.engine_contract import CHECKS, CONTEXT, DEFAULT_MAX_TOKENS, Subject

ASKED = GenerationRequest(contracts.LOCAL_CHAT_MODEL, "one two three four")


def build(chat=None, **settings):
    """Guarded fakes, their floors and their metrics."""
    floors, metrics = build_floors(LlmSettings(**settings)), Metrics()
    engines = guard_engines(fake_engines(chat or FakeChatEngine()), floors, metrics)
    engines.load()
    return engines, floors, metrics


@pytest.mark.parametrize("name", CHECKS)
def test_a_guard_keeps_the_contract(name: str, tmp_path: Path) -> None:
    engines, _, _ = build(FakeChatEngine(context=CONTEXT, default_max_tokens=DEFAULT_MAX_TOKENS))
    CHECKS[name](Subject(engines.chat, engines.scoring, engines.embedding, engines.rerank, tmp_path))


def test_many_documents_are_ranked_in_their_order():
    engines, _, metrics = build()
    documents = [f"word{number} word{number % 3}" for number in range(70)]
    ranking = engines.rerank.rerank("word1 word69", documents)
    plain = fake_engines(FakeChatEngine()).rerank
    plain.load()
    assert ranking == plain.rerank("word1 word69", documents)
    assert b'llm_reranked_pairs_total{key="-",model="%s"} 70.0' % contracts.LOCAL_RERANK_MODEL.encode() in (
        metrics.write()
    )


@pytest.mark.parametrize("role", ["embedding", "rerank", "scoring"])
def test_no_more_than_so_many_ask_at_once(role):
    engines, floors, _ = build(llm_max_embedding_queue=1)
    ask = {
        "embedding": lambda: engines.embedding.embed(contracts.LOCAL_EMBEDDING_MODEL, ["one"]),
        "rerank": lambda: engines.rerank.rerank("one", ["one"]),
        "scoring": lambda: engines.scoring.score(contracts.LOCAL_CHAT_MODEL, engines.chat.tokenize("one")),
    }[role]
    ask()
    held = floors.all()[role].begin(lambda _: None)
    with pytest.raises(QueueFullError) as caught:
        ask()
    assert caught.value.retry_after == 1
    floors.all()[role].end(held, whole=False)
    ask()


@pytest.mark.parametrize("read", [0, 2])
def test_half_an_answer_is_counted_with_the_tokens_of_its_prompt(read):
    engines, floors, metrics = build()
    generation = engines.chat.generate(ASKED)
    pieces = iter(generation)
    for _ in range(read):
        next(pieces)
    generation.cancel()
    generation.cancel()
    list(pieces)
    text = metrics.write().decode()
    model = contracts.LOCAL_CHAT_MODEL
    assert f'llm_generations_total{{end="cancelled",model="{model}"}} 1.0' in text
    assert f'llm_tokens_total{{key="-",kind="prompt",model="{model}"}} 4.0' in text
    assert (f'kind="completion",model="{model}"}} {read}.0' in text) == bool(read)
    assert floors.chat.count == 0


def test_a_guard_works_outside_of_a_request():
    engines, _, _ = build()
    pieces = copy_context().run(lambda: list(engines.chat.generate(ASKED)))
    assert "".join(piece.text for piece in pieces) == "one two three four"


def test_an_end_reads_no_text():
    """The event loop says it, and others of a request wait for it."""
    chat = FakeChatEngine()
    engines, floors, metrics = build(chat)
    generation = engines.chat.generate(ASKED)
    chat.tokenize = chat.count_tokens = Mock(side_effect=EngineError("The tokenizer did not answer."))
    generation.cancel()
    assert chat.generations[0].cancelled.is_set() and floors.chat.count == 0
    assert f'kind="prompt",model="{contracts.LOCAL_CHAT_MODEL}"}} 4.0' in metrics.write().decode()
    assert not chat.tokenize.called
