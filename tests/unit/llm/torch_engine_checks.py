"""Runs the engine's contract on the torch engine, over tiny models with random weights made in the folder given.

`.venv-trainer/bin/python -m tests.unit.llm.torch_engine_checks FOLDER` prints each check's name and what failed, in
JSON.
"""

import json
import math
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from deployments.llm.engines import scoring_process
from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.engines.ports import (
    ContextTooLongError,
    EngineError,
    GenerationRequest,
    QueueFullError,
    UnknownModelError,
    UnsupportedError,
)
from deployments.llm.engines.torch import models
from deployments.llm.engines.torch.embedder import TorchEmbeddingEngine
from deployments.llm.engines.torch.engine import TorchChatEngine
from deployments.llm.engines.torch.sampling import penalise
from deployments.llm.settings import LlmSettings
from tests.unit.llm.check_outcomes import collect_outcomes, find_checks
from tests.unit.llm.engine_contract import (
    CHECKS,
    CONTEXT,
    DEFAULT_MAX_TOKENS,
    WORDS,
    Subject,
    answer,
    ask,
    fails,
)
from tests.unit.llm.tiny_models import make_models


def start_engine(folder: Path, **settings) -> TorchChatEngine:
    engine = TorchChatEngine(
        LlmSettings(
            llm_base_model=str(folder / "chat"),
            llm_default_max_tokens=DEFAULT_MAX_TOKENS,
            llm_threads=1,
            **settings,
        )
    )
    engine.load()
    assert engine.ready, engine.failure
    return engine


def start_subject(folder: Path) -> Subject:
    engine = start_engine(folder)
    embedding = TorchEmbeddingEngine("embedding", str(folder / "embedding"))
    embedding.load()
    return Subject(engine, engine, embedding, None, folder / "adapter")


def check_penalties_are_openais(_: Path) -> None:
    logits = torch.tensor([1.0, 2.0, 3.0, -1.0])
    penalise(logits, [2, 0, 2, 2], GenerationRequest("m", [], frequency_penalty=0.5, presence_penalty=-0.25))
    assert logits.tolist() == [0.75, 2.0, 1.75, -1.0]
    penalise(logits, [2, 0], GenerationRequest("m", []))
    assert logits.tolist() == [0.75, 2.0, 1.75, -1.0]


def check_a_penalty_changes_its_own_answer_alone(folder: Path) -> None:
    engine = start_engine(folder)
    plain, penalised = ask(engine), ask(engine, frequency_penalty=1.5)
    alone = [answer(engine, request)[0] for request in (plain, penalised)]
    assert alone[0] != alone[1]
    generations = [engine.generate(request) for request in (plain, penalised)]
    assert ["".join(piece.text for piece in generation) for generation in generations] == alone


def check_other_seeds_give_other_texts(folder: Path) -> None:
    engine = start_engine(folder)
    assert len({answer(engine, ask(engine, temperature=1.0, seed=seed))[0] for seed in range(3)}) == 3


def check_who_went_away_frees_the_queue(folder: Path) -> None:
    engine = start_engine(folder, llm_max_batch=1, llm_max_queue=2)
    running = engine.generate(ask(engine, 20, max_tokens=170))
    waiting = engine.generate(ask(engine))
    assert fails(QueueFullError, lambda: engine.generate(ask(engine)))
    waiting.cancel()
    last = engine.generate(ask(engine))
    running.cancel()
    assert list(last)[-1].finish_reason


def check_the_batch_takes_answers_by_their_tokens(folder: Path) -> None:
    # Beside 20 + 170 tokens another row may come to be padded to as many.
    engine = start_engine(folder, llm_max_batch_tokens=2 * 190 - 1)
    running = engine.generate(ask(engine, 20, max_tokens=170))
    next(iter(running))
    waiting = engine.generate(ask(engine, 20, max_tokens=2))
    assert next(iter(waiting)).text
    assert running.ended.is_set()  # as it is when an answer has ended


def check_one_answer_alone_is_let_in_however_long(folder: Path) -> None:
    engine = start_engine(folder, llm_max_batch_tokens=10)
    generations = [engine.generate(ask(engine, words, max_tokens=20)) for words in (150, 5, 100)]
    assert [list(generation)[-1].finish_reason for generation in generations] == ["length"] * 3


def check_a_model_forgotten_while_requests_wait(folder: Path) -> None:
    engine, adapter = start_engine(folder, llm_max_batch=1), folder / "adapter"
    engine.register_adapter("ft:x", adapter)
    engine.register_adapter("ft:y", adapter)
    running = engine.generate(ask(engine, model="ft:x", max_tokens=150))
    waiting = engine.generate(ask(engine, model="ft:y"))
    next(iter(running))
    engine.forget_adapter("ft:x")
    engine.forget_adapter("ft:y")
    assert list(running)[-1].finish_reason == "length"
    assert fails(UnknownModelError, lambda: list(waiting))


def check_weights_that_are_missing_are_a_failure_with_a_reason(folder: Path) -> None:
    engine = TorchChatEngine(LlmSettings(llm_base_model=str(folder)))
    engine.load()
    assert not engine.ready and engine.failure
    assert fails(EngineError, lambda: engine.generate(ask(engine)))


def check_an_adapter_of_another_base_fails_its_requests_in_words(folder: Path) -> None:
    engine = start_engine(folder)
    engine.register_adapter("ft:other", folder / "other-adapter")
    engine.register_adapter("ft:gone", folder / "nowhere")
    for model in ("ft:other", "ft:gone"):
        error = fails(EngineError, lambda model=model: list(engine.generate(ask(engine, model=model))))
        assert model in str(error) and "does not fit" in str(error), error
        assert fails(EngineError, lambda model=model: engine.score(model, [5, 6, 7]))
    assert answer(engine, ask(engine))[1].finish_reason


def check_a_folder_that_is_no_whole_model_is_named_with_what_it_lacks(folder: Path) -> None:
    part = folder / "part"
    shutil.copytree(folder / "chat", part)
    (part / "model.safetensors").unlink()
    engine = TorchChatEngine(LlmSettings(llm_base_model=str(part)))
    engine.load()
    assert not engine.ready and "model.safetensors is missing" in (engine.failure or "")


def check_biases_forbid_and_force_tokens(folder: Path) -> None:
    engine = start_engine(folder)
    (wanted,) = engine.tokenize(" w42")
    text, _ = answer(engine, ask(engine, max_tokens=3, logit_bias={wanted: 100.0}))
    assert text.split() == ["w42"] * 3
    first = engine.tokenize(answer(engine, ask(engine, max_tokens=1))[0])[0]
    assert (
        engine.tokenize(answer(engine, ask(engine, max_tokens=1, logit_bias={first: -100.0}))[0])[0] != first
    )
    error = fails(UnsupportedError, lambda: engine.generate(ask(engine, logit_bias={10**6: 1.0})))
    assert error.param == "logit_bias"


def check_schemas_that_nothing_satisfies_are_refused(folder: Path) -> None:
    engine = start_engine(folder)
    for schema in (
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"enum": []},
        {"not": {}},
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"type": "string", "pattern": "("},
        {"type": "array", "minItems": 3, "maxItems": 1},
        {"type": "object", "properties": {"a": {"description": "x" * 70_000}}},
    ):
        error = fails(
            UnsupportedError, lambda schema=schema: engine.generate(ask(engine, json_schema=schema))
        )
        assert error.param == "response_format", error
    # One that recurses can be held to.
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/node"}},
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    }
    text, last = answer(engine, ask(engine, max_tokens=100, json_schema=tree))
    assert text.startswith("{") and (last.finish_reason == "length" or json.loads(text) is not None)


def check_any_json_object_and_plain_answers_go_side_by_side(folder: Path) -> None:
    engine = start_engine(folder)
    plain = answer(engine, ask(engine, max_tokens=30))[0]
    generations = [
        engine.generate(ask(engine, max_tokens=30)),
        engine.generate(ask(engine, max_tokens=60, json_schema={})),
    ]
    texts = ["".join(piece.text for piece in generation) for generation in generations]
    assert texts[0] == plain and texts[1].lstrip().startswith("{")


def check_scores_are_the_logprobs_of_the_answer(folder: Path) -> None:
    engine = start_engine(folder)
    engine.register_adapter("ft:x", folder / "adapter")
    prompt = engine.tokenize(" ".join(WORDS[:12]))
    for model in (engine.chat_model, "ft:x"):
        request = GenerationRequest(model, prompt, max_tokens=4, temperature=0.0, logprobs=1)
        told = [one for piece in engine.generate(request) for one in piece.logprobs]
        scores = engine.score(model, [*prompt, *(one.id for one in told)], top=1)[-4:]
        assert [one.id for one in scores] == [one.id for one in told]
        assert all(abs(a.logprob - b.logprob) < 1e-4 for a, b in zip(scores, told, strict=True))
        assert all(one.top[0].id == one.id and one.data.decode().strip() in WORDS for one in told)
    assert engine.score(engine.chat_model, []) == []
    assert fails(ContextTooLongError, lambda: engine.score(engine.chat_model, prompt * 30)).limit == CONTEXT
    assert fails(ValueError, lambda: engine.score(engine.chat_model, [1, 10**6]))


def check_a_process_of_its_own_tells_the_same_scores(folder: Path) -> None:
    os.environ["GHOSTWRITER_LLM_BASE_MODEL"] = str(folder / "chat")
    engine = start_engine(folder)
    settings = LlmSettings(llm_trainer_python=Path(sys.executable), llm_threads=1)
    assert scoring_process.build_engine(settings, engine) is engine
    chat = FakeChatEngine(context=CONTEXT)
    scoring = scoring_process.build_engine(settings, chat)
    tokens = engine.tokenize(" ".join(WORDS[:12]))
    try:
        for model, adapter in (("ft:x", "adapter"), ("ft:other", "other-adapter")):
            engine.register_adapter(model, folder / adapter)
            chat.register_adapter(model, folder / adapter)
        for model in (engine.chat_model, "ft:x"):
            for mine, theirs in zip(
                scoring.score(model, tokens, 2), engine.score(model, tokens, 2), strict=True
            ):
                assert (mine.id, mine.data, len(mine.top)) == (theirs.id, theirs.data, len(theirs.top))
                assert abs(mine.logprob - theirs.logprob) < 0.05 or math.isnan(theirs.logprob)
        assert "does not fit" in str(fails(EngineError, lambda: scoring.score("ft:other", tokens)))
        assert "no token" in str(fails(ValueError, lambda: scoring.score(engine.chat_model, [10**6])))
        assert len(scoring.score("ft:x", tokens)) == 12
    finally:
        scoring.close()


def run_checks(folder: Path) -> dict[str, str]:
    """What failed, by the name of the check; empty where it passed."""
    make_models(folder)
    return collect_outcomes(
        {name: partial(lambda check: check(start_subject(folder)), check) for name, check in CHECKS.items()}
        | {name: partial(check, folder) for name, check in find_checks(globals()).items()}
    )


if __name__ == "__main__":
    # In full precision everywhere: near ties of random weights fall either way in bfloat16.
    with mock.patch.object(models, "choose_dtype", return_value=torch.float32):
        print(json.dumps(run_checks(Path(sys.argv[1]))))
