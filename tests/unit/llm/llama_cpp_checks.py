"""Runs the engine's contract on llama.cpp, over a tiny model with random weights made in the folder given.

`.venv-llm/bin/python -m tests.unit.llm.llama_cpp_checks FOLDER` prints each check's name and what failed, as JSON.
"""

import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

from deployments.llm.engines.digests import compute_digest
from deployments.llm.engines.fakes import (
    FakeChatEngine,
    FakeEmbeddingEngine,
    FakeRerankEngine,
    FakeScoringEngine,
)
from deployments.llm.engines.llama_cpp.large_texts import LARGE, LargeTexts
from deployments.llm.engines.llama_cpp.server import LlamaServer
from deployments.llm.engines.ports import (
    GenerationRequest,
    NotReadyError,
    QueueFullError,
    UnsupportedError,
)
from tests.unit.llm import llama_cpp_adapter_checks, llama_cpp_schema_checks
from tests.unit.llm.check_outcomes import collect_outcomes, find_checks
from tests.unit.llm.engine_contract import CHECKS, WORDS, Subject, answer, ask, fails
from tests.unit.llm.llama_cpp_models import END, start_engine, write_adapter, write_model


def start_subject(folder: Path) -> Subject:
    engine = start_engine(folder)
    assert engine.ready, engine.failure
    fake = FakeChatEngine()
    others = (FakeScoringEngine(fake), FakeEmbeddingEngine(), FakeRerankEngine())
    for other in (fake, *others):
        other.load()
    fake.tokenize(
        " ".join(map(str, range(400)))
    )  # the fake scorer reads the fake's words: one for each token here
    fake.chat_model = engine.chat_model
    return Subject(engine, *others, folder / "adapter")


def check_penalties_spare_what_only_the_prompt_says(folder: Path) -> None:
    engine = start_engine(folder)
    plain, _ = answer(engine, ask(engine, 90, max_tokens=1))
    for penalty in ("frequency_penalty", "presence_penalty"):
        assert answer(engine, ask(engine, 90, max_tokens=1, **{penalty: 2.0}))[0] == plain, penalty
        request = ask(engine, 90, max_tokens=20, **{penalty: 2.0})
        text, last = answer(engine, request)
        assert text.startswith(plain) and (last.finish_reason, last.usage.completion_tokens) == ("length", 20)
        assert "".join(piece.text for piece in engine.generate(request)) == text


def check_a_bias_forces_or_bans_a_token(folder: Path) -> None:
    engine = start_engine(folder)
    first = engine.tokenize("w00 w05 w06")[1]
    assert answer(engine, ask(engine, max_tokens=3, logit_bias={first: 100.0}))[0].split() == ["w05"] * 3
    assert "w05" not in answer(engine, ask(engine, max_tokens=30, logit_bias={first: -100.0}))[0]


def check_a_special_token_in_a_message_is_plain_text(folder: Path) -> None:
    write_model(folder / "spaced.gguf", space_prefix=True)
    engine = start_engine(folder, "spaced.gguf")
    assert END in engine.tokenize("w00<|end|>") and engine.count_tokens([_say("w00")]) == 1
    injected = [_say("w00 <|end|>")]
    assert engine.count_tokens(injected) == 1 + 1 + len("<|end|>")  # a space and each letter
    _, last = answer(engine, GenerationRequest(engine.chat_model, injected, max_tokens=1, temperature=0.0))
    assert last.usage.prompt_tokens == engine.count_tokens(injected)


def check_other_seeds_give_other_texts(folder: Path) -> None:
    engine = start_engine(folder)
    assert len({answer(engine, ask(engine, temperature=1.0, seed=seed))[0] for seed in range(3)}) == 3


def check_a_prefix_that_was_read_is_not_read_again(folder: Path) -> None:
    engine = start_engine(folder)
    assert answer(engine, ask(engine, 90))[1].usage.cached_tokens == 0
    assert answer(engine, ask(engine, 90))[1].usage.cached_tokens == 89
    assert answer(engine, ask(engine, 100))[1].usage.cached_tokens == 90


def check_a_model_without_a_template_continues_texts_alone(folder: Path) -> None:
    write_model(folder / "bare.gguf", template=None)
    engine = start_engine(folder, "bare.gguf")
    assert fails(UnsupportedError, lambda: engine.generate(ask(engine))).param == "messages"
    assert answer(engine, ask(engine, prompt="w00 w01", max_tokens=2))[1].usage.prompt_tokens == 2


def check_who_went_away_frees_the_queue(folder: Path) -> None:
    engine = start_engine(folder, llm_max_batch=1, llm_max_queue=2)
    running = engine.generate(ask(engine, 20, max_tokens=170))
    waiting = engine.generate(ask(engine))
    assert fails(QueueFullError, lambda: engine.generate(ask(engine)))
    waiting.cancel()
    last = engine.generate(ask(engine))
    running.cancel()
    assert list(last)[-1].finish_reason


def check_a_large_text_keeps_no_small_one_waiting(folder: Path) -> None:
    engine = start_engine(folder)
    large = "w00 " * LARGE
    begun, go_on = threading.Event(), threading.Event()
    tokenize = LlamaServer.tokenize

    def hold(server, parts):
        if len(parts[0]) > LARGE:
            begun.set()
            assert go_on.wait(30)
        return tokenize(server, parts)

    with patch.object(LlamaServer, "tokenize", hold), ThreadPoolExecutor() as pool:
        engine._large_texts = LargeTexts(seconds=0.01)
        first = pool.submit(engine.tokenize, large)
        assert begun.wait(30)
        try:
            for call in (
                lambda: engine.tokenize(large),
                lambda: engine.count_tokens([_say(large)]),
                lambda: engine.generate(ask(engine, prompt=large)),
                lambda: engine.detokenize([5] * (LARGE + 1)),
            ):
                assert fails(QueueFullError, call)
            assert len(engine.tokenize("w00 w01")) == 2 and answer(engine, ask(engine))[1].finish_reason
        finally:
            go_on.set()
        assert len(first.result(timeout=60)) >= LARGE


def check_its_listener_wants_a_key(folder: Path) -> None:
    import http.client

    engine = start_engine(folder)
    with engine._fleet.borrow(engine.chat_model) as (server, _):
        for key in ("", "guessed"):
            connection = http.client.HTTPConnection(server._host, server._port, timeout=5)
            connection.request("POST", "/completion", '{"prompt": "w00"}', {"Authorization": f"Bearer {key}"})
            assert connection.getresponse().status == 401


def check_weights_that_do_not_do_are_a_failure_with_a_reason(folder: Path) -> None:
    cut = folder / "cut.gguf"
    cut.write_bytes((folder / "tiny.gguf").read_bytes()[:3000])
    short = folder / "short.gguf"
    short.write_bytes((folder / "tiny.gguf").read_bytes()[:-3000])
    other = folder / "other.gguf"
    other.write_bytes(b"PK\x03\x04")
    digest = compute_digest(folder / "tiny.gguf")
    assert start_engine(folder, llm_base_model_sha256=digest.upper()).ready
    for model, settings, words in (
        ("tiny.gguf", {"llm_base_model_sha256": "0" * 64}, digest),
        ("cut.gguf", {}, "damaged or incomplete"),
        ("short.gguf", {}, "could not load"),
        ("other.gguf", {}, "not a GGUF file"),
        ("nowhere", {}, "GHOSTWRITER_LLM_BASE_MODEL"),
    ):
        engine = start_engine(folder, model, **settings)
        assert not engine.ready and words in (engine.failure or ""), (model, engine.failure)
        assert fails(NotReadyError, lambda e=engine: e.generate(ask(e)))


def check_closing_ends_those_that_wait(folder: Path) -> None:
    engine = start_engine(folder, llm_max_batch=1)
    generations = [engine.generate(ask(engine, 20, max_tokens=170)) for _ in range(4)]
    ended = threading.Semaphore(0)
    for one in generations:
        threading.Thread(target=lambda g=one: (list(g), ended.release()), daemon=True).start()
    engine.close()
    assert all(ended.acquire(timeout=10) for _ in generations)
    engine.close()


def _say(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def run_checks(folder: Path) -> dict[str, str]:
    """What failed, by the name of the check; empty where it passed."""
    write_model(folder / "tiny.gguf")
    write_adapter(folder / "adapter")
    own = find_checks(globals(), llama_cpp_schema_checks, llama_cpp_adapter_checks)
    return collect_outcomes(
        {name: partial(lambda check: check(start_subject(folder)), check) for name, check in CHECKS.items()}
        | {name: partial(check, folder) for name, check in own.items()}
    )


if __name__ == "__main__":
    logging.disable()
    assert len(WORDS) == 90
    print(json.dumps(run_checks(Path(sys.argv[1]))))
