"""Tuned models on llama.cpp: who is loaded, who waits, who is refused; `llama_cpp_checks` runs these."""

import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

from deployments.llm.engines.llama_cpp.engine import build_engine
from deployments.llm.engines.llama_cpp.fleet import Fleet
from deployments.llm.engines.ports import EngineError, NotReadyError, UnknownModelError
from deployments.llm.settings import LlmSettings
from tests.unit.llm.engine_contract import answer, ask, fails
from tests.unit.llm.llama_cpp_models import start_engine, write_adapter


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


def _rename_layer(folder: Path) -> bytes:
    """The adapter's file with weights of a layer that the base does not have."""
    return (folder / "adapter_model.safetensors").read_bytes().replace(b"layers.0.", b"layers.9.")
