"""Runs the engine's contract on llama.cpp, over a tiny model with random weights made in the folder given.

`.venv-llm/bin/python -m tests.unit.llm.llama_cpp_checks FOLDER` prints each check's name and what failed, as JSON.
"""

import json
import logging
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

from deployments.llm.engines.digests import compute_digest
from deployments.llm.engines.fakes import (
    FakeChatEngine,
    FakeEmbeddingEngine,
    FakeRerankEngine,
    FakeScoringEngine,
)
from deployments.llm.engines.llama_cpp.answer_check import AnswerCheck
from deployments.llm.engines.llama_cpp.engine import build_engine
from deployments.llm.engines.llama_cpp.fleet import Fleet
from deployments.llm.engines.llama_cpp.grammar_check import GrammarCheck
from deployments.llm.engines.llama_cpp.large_texts import LARGE, LargeTexts
from deployments.llm.engines.llama_cpp.schema import write_grammar
from deployments.llm.engines.llama_cpp.server import LlamaServer
from deployments.llm.engines.ports import (
    EngineError,
    GenerationRequest,
    NotReadyError,
    QueueFullError,
    UnknownModelError,
    UnsupportedError,
)
from deployments.llm.settings import LlmSettings
from tests.unit.llm.engine_contract import CHECKS, DEFAULT_MAX_TOKENS, WORDS, Subject, answer, ask, fails
from tests.unit.llm.llama_cpp_models import END, write_adapter, write_model

RECURSIVE = {
    "$defs": {"node": {"type": "object", "properties": {"w01": {"$ref": "#/$defs/node"}}}},
    "$ref": "#/$defs/node",
}
IMPOSSIBLE = (
    {"enum": []},
    {"type": "nonsense"},
    {"not": {}},
    {"$ref": "#/nowhere"},
    {"$ref": "#"},
    {"type": "integer", "minimum": 5, "maximum": 3},
    {"type": "string", "pattern": "(unclosed"},
    {"const": "w01" * 30_000},
)


def start_engine(folder: Path, model: str = "tiny.gguf", **settings):
    """A loaded engine over the tiny model."""
    wishes = {"llm_base_model": str(folder / model), "llm_default_max_tokens": DEFAULT_MAX_TOKENS}
    wishes |= {"cache_dir": folder, "llm_threads": 1, "llm_max_batch": 3}
    engine = build_engine(LlmSettings(**{**wishes, **settings}))
    engine.load()
    return engine


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


def check_schemas_that_cannot_be_held_to_are_refused(folder: Path) -> None:
    engine = start_engine(folder)
    for schema in IMPOSSIBLE:
        error = fails(UnsupportedError, lambda s=schema: engine.generate(ask(engine, json_schema=s)))
        assert error.param == "response_format"
    text, _ = answer(engine, ask(engine, max_tokens=60, json_schema=RECURSIVE))
    assert text.startswith("{")
    assert answer(engine, ask(engine, max_tokens=2, json_schema={}))[0].startswith("{")


def check_a_whole_answer_that_breaks_its_schema_is_an_error(folder: Path) -> None:
    """As where llama.cpp loses the grammar in mid-answer: it holds to less than was asked."""
    engine = start_engine(folder)
    said = {"type": "object", "properties": {"w01": {"const": "w02"}}, "required": ["w01"]}
    said["additionalProperties"] = False
    for schema in (
        {},
        said,
        {"anyOf": [{"type": "array"}, said]},
        {"properties": {"w01": {"pattern": "^(w+[0-9]*)+$"}}, "additionalProperties": False},
    ):
        with patch.object(GrammarCheck, "check", return_value=write_grammar(said)):
            assert answer(engine, ask(engine, max_tokens=80, json_schema=schema))[1].finish_reason == "stop"
    for schema in (
        {"type": "array"},
        {**said, "properties": {"w01": {"const": "w03"}}},
        {**said, "required": ["w01", "w02"]},
        {"properties": {"w01": {"pattern": "^(w+)+$"}}},
        {"properties": {"w01": {"format": "date"}}},
        RECURSIVE,
    ):
        with patch.object(GrammarCheck, "check", return_value=write_grammar(said)):
            request = ask(engine, max_tokens=80, json_schema=schema)
            error = fails(UnsupportedError, lambda r=request: answer(engine, r))
        assert error.param == "response_format" and "to its end" in str(error)


def check_an_answer_is_checked_within_bounds(folder: Path) -> None:
    deep = "[" * 200 + "]" * 200
    AnswerCheck({"$defs": {"l": {"items": {"$ref": "#/$defs/l"}}}, "$ref": "#/$defs/l"})(deep)
    for schema, text in (
        ({}, '{"w": ' * 5000 + "1" + "}" * 5000),
        ({"type": "number"}, "1e999"),
        ({"type": "string", "pattern": "^(a+)+$"}, json.dumps("a" * 4000 + "b")),
    ):
        assert "to its end" in str(fails(UnsupportedError, lambda s=schema, t=text: AnswerCheck(s)(t)))
    half = {"type": "string", "pattern": "^a.$"}
    AnswerCheck(half)('"a\\ud800"')
    long = [{"type": "string", "pattern": f"^(.{{1,44}}){{1,44}}{number}$"} for number in range(1000)]
    for schema in ({"anyOf": long}, {"pattern": "(?=a)"}, {"$ref": "http://127.0.0.1:9/schema"}):
        error = fails(UnsupportedError, lambda s=schema: AnswerCheck(s))
        assert error.param == "response_format"


def check_a_vocabulary_that_spoils_grammars_is_told(folder: Path) -> None:
    write_model(folder / "spaced.gguf", space_prefix=True)
    engine = start_engine(folder, "spaced.gguf")
    assert (
        fails(UnsupportedError, lambda: engine.generate(ask(engine, json_schema={}))).param
        == "response_format"
    )
    assert answer(engine, ask(engine))[1].finish_reason == "length"


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


def check_adapters_answer_each_for_itself(folder: Path) -> None:
    engine = start_engine(folder)
    requests = {"base": ask(engine)}
    for name in ("ft:a", "ft:b"):
        engine.register_adapter(name, write_adapter(folder / name, seed=len(requests)))
        requests[name] = ask(engine, model=name)
    alone = {name: answer(engine, request)[0] for name, request in requests.items()}
    assert len(set(alone.values())) == 3
    running = {name: engine.generate(request) for name, request in requests.items()}
    assert {name: "".join(p.text for p in one) for name, one in running.items()} == alone
    assert answer(engine, replace(requests["ft:a"]))[0] == alone["ft:a"]  # none of another's prefix


def check_more_adapters_than_fit_take_turns(folder: Path) -> None:
    engine = start_engine(folder, llm_max_models=1)
    for name in ("ft:c", "ft:d"):
        engine.register_adapter(name, write_adapter(folder / name, seed=ord(name[-1])))
    texts = [answer(engine, ask(engine, model=name))[0] for name in ("ft:c", "ft:d", "ft:c", "ft:d")]
    assert texts[0] == texts[2] != texts[1] == texts[3]


def check_an_adapter_comes_and_goes_beside_an_answer(folder: Path) -> None:
    engine = start_engine(folder)
    alone, _ = answer(engine, ask(engine, 20, max_tokens=150))
    running = engine.generate(ask(engine, 20, max_tokens=150))
    pieces = iter(running)
    text = next(pieces).text
    engine.register_adapter("ft:e", write_adapter(folder / "ft-e"))
    assert answer(engine, ask(engine, model="ft:e"))[1].finish_reason
    engine.forget_adapter("ft:e")
    assert fails(UnknownModelError, lambda: engine.generate(ask(engine, model="ft:e")))
    assert text + "".join(piece.text for piece in pieces) == alone


def check_an_adapter_that_does_not_fit_fails_alone(folder: Path) -> None:
    engine = start_engine(folder, llm_max_models=2)
    good = folder / "adapter"
    odd = {
        "ft:wide": write_adapter(folder / "wide", width=32),
        "ft:deep": write_adapter(folder / "deep"),
        "ft:dora": write_adapter(folder / "dora", use_dora=True),
        "ft:cut": write_adapter(folder / "cut"),
        "ft:none": folder / "nothing-here",
    }
    weights = folder / "cut" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (folder / "deep" / "adapter_model.safetensors").write_bytes(_rename_layer(folder / "deep"))
    engine.register_adapter("ft:good", good)
    expected = answer(engine, ask(engine, model="ft:good"))[0]
    for name, directory in odd.items():
        engine.register_adapter(name, directory)
        error = fails(EngineError, lambda n=name: answer(engine, ask(engine, model=n)))
        assert name in str(error) and "can't be loaded" in str(error)
        assert answer(engine, ask(engine, model="ft:good"))[0] == expected
        assert answer(engine, ask(engine))[1].finish_reason
    engine.register_adapter("ft:wide", good)  # tuned again
    assert answer(engine, ask(engine, model="ft:wide"))[0] == expected


def check_adapters_of_before_a_start_are_there(folder: Path) -> None:
    engine = build_engine(LlmSettings(llm_base_model=str(folder / "tiny.gguf"), cache_dir=folder))
    engine.register_adapter("ft:damaged", folder / "nothing-here")
    engine.register_adapter("ft:good", folder / "adapter")
    engine.load()
    assert answer(engine, ask(engine, model="ft:good", max_tokens=3))[1].finish_reason == "length"
    assert fails(EngineError, lambda: answer(engine, ask(engine, model="ft:damaged")))


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


def check_those_that_wait_for_adapters_do_not_wake_each_other(folder: Path) -> None:
    loading, served, wakes = threading.Event(), threading.Semaphore(0), []

    def note():
        wakes.append(1)
        wake()

    def build(wanted):
        assert not wanted or loading.wait(10)
        return Mock(), {}

    def borrow(name):
        with fleet.borrow(name) as (_, scales):
            assert [scale["scale"] for scale in scales] == [1.0]
        served.release()

    fleet = Fleet(build, "base", 1)
    fleet.start()
    wake = fleet._changed.notify_all
    for name in ("a", "b", "c"):
        fleet.register(name, folder / name)
        threading.Thread(target=borrow, args=(name,), daemon=True).start()
    with patch.object(fleet._changed, "notify_all", side_effect=note):
        assert not served.acquire(timeout=0.2) and len(wakes) < 20
    loading.set()
    assert all(served.acquire(timeout=10) for _ in range(3))
    fleet.close()


def check_what_nobody_asked_for_yet_takes_nobodys_place(folder: Path) -> None:
    built: list[list[str]] = []

    def build(wanted):
        built.append(list(wanted))
        return Mock(), {}

    def use(*names):
        for name in names:
            with fleet.borrow(name):
                pass

    fleet = Fleet(build, "base", 2)
    fleet.register("early", folder / "early", soon=False)
    fleet.start()
    fleet.register("champion", folder / "champion")
    use("champion")
    for step in range(3):
        fleet.register(f"step-{step}", folder / str(step), soon=False)
    fleet.register("challenger", folder / "challenger")
    use("challenger", "champion")
    assert set().union(*map(set, built)) == {"champion", "challenger"}
    use("step-0")
    assert built[-1] == ["champion", "step-0"], "it goes before what is used"
    use("challenger", "champion", "challenger")
    assert "champion" in built[-1]
    fleet.forget("step-0")
    fleet.register("step-0", folder / "0", soon=False)
    fleet.register("final", folder / "final")
    use("final")
    assert built[-1] == ["challenger", "final"]
    fleet.close()


def check_a_model_that_finds_no_place_in_time_is_told_to_come_again(folder: Path) -> None:
    fleet = Fleet(lambda wanted: (Mock(), {}), "base", 1, seconds=0.2)
    fleet.start()
    for name in ("a", "b", "c"):
        fleet.register(name, folder / name)
    with (
        fleet.borrow("a"),
        fleet.borrow("b"),
    ):  # one answers on the server that is to end, one on its successor
        error = fails(NotReadyError, lambda: fleet.borrow("c").__enter__())
        assert "c is not in memory" in str(error) and error.retry_after
        with fleet.borrow("b"):
            pass
    with fleet.borrow("c"):
        pass
    fleet.close()


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


def _rename_layer(folder: Path) -> bytes:
    """The adapter's file with weights of a layer that the base does not have."""
    return (folder / "adapter_model.safetensors").read_bytes().replace(b"layers.0.", b"layers.9.")


def run_checks(folder: Path) -> dict[str, str]:
    """What failed, by the name of the check; empty where it passed."""
    write_model(folder / "tiny.gguf")
    write_adapter(folder / "adapter")
    checks = {name: (lambda check=check: check(start_subject(folder))) for name, check in CHECKS.items()}
    for name, check in globals().items():
        if name.startswith("check_"):
            checks[name] = lambda check=check: check(folder)
    outcomes = {}
    for name, check in checks.items():
        try:
            check()
            outcomes[name] = ""
        except Exception:
            outcomes[name] = traceback.format_exc()
    return outcomes


if __name__ == "__main__":
    logging.disable()
    assert len(WORDS) == 90
    print(json.dumps(run_checks(Path(sys.argv[1]))))
