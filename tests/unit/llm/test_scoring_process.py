"""The process that scores: started when asked, started again when killed, ended when idle, missed in words."""

import math
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.engines.ports import (
    ContextTooLongError,
    EngineError,
    NotReadyError,
    UnknownModelError,
    UnsupportedError,
)
from deployments.llm.engines.scoring_process import ScoringProcess
from tests.postgres_server import wait_for

CHILD = """
import json, os, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    if 13 in asked["tokens"]:
        os._exit(3)
    if 14 in asked["tokens"]:
        time.sleep(60)
    if 15 in asked["tokens"]:
        print(json.dumps({"value_error": "This model has no token 15."}), flush=True)
        continue
    if 16 in asked["tokens"]:
        print(json.dumps({"error": "The adapter does not fit."}), flush=True)
        continue
    scores = [[token, "dzA=", -token / 10 if index else None, []] for index, token in enumerate(asked["tokens"])]
    scores[-1][3] = [[os.getpid(), "dzA=", -0.5, []], [len(asked["adapter"] or ""), "dzA=", -0.7, []]]
    print(json.dumps({"scores": scores}), flush=True)
"""


@pytest.fixture
def start() -> Iterator[Callable[..., ScoringProcess]]:
    """Starts engines over the child above, or over the command given."""
    engines: list[ScoringProcess] = []

    def start_engine(
        command: tuple[str, ...] = (sys.executable, "-c", CHILD), **wishes: float
    ) -> ScoringProcess:
        chat = FakeChatEngine(context=50)
        chat.load()
        chat.register_adapter("ft:x", Path("/adapters/x"))
        engine = ScoringProcess(chat, command, nice=1, **wishes)  # type: ignore[arg-type]
        engine.load()
        engines.append(engine)
        return engine

    yield start_engine
    for engine in engines:
        engine.close()


def read_pid(engine: ScoringProcess) -> int:
    return engine.score(FakeChatEngine().chat_model, [1, 2], 2)[-1].top[0].id


def test_scores_come_from_a_process_that_the_first_request_starts(
    start: Callable[..., ScoringProcess],
) -> None:
    engine = start()
    assert engine.ready and not engine.running
    scores = engine.score(FakeChatEngine().chat_model, [5, 7])
    assert engine.running and math.isnan(scores[0].logprob)
    assert [(one.id, one.data) for one in scores] == [(5, b"w0"), (7, b"w0")]
    assert scores[1].logprob == -0.7 and scores[1].top[1].id == 0
    assert engine.score("ft:x", [5, 7])[1].top[1].id == len("/adapters/x")


def test_a_killed_process_is_started_again(start: Callable[..., ScoringProcess]) -> None:
    engine = start()
    first = read_pid(engine)
    psutil.Process(first).kill()
    assert read_pid(engine) != first


def test_who_kills_it_with_each_request_is_told(start: Callable[..., ScoringProcess]) -> None:
    engine = start()
    with pytest.raises(EngineError, match="ended 2 times"):
        engine.score(FakeChatEngine().chat_model, [13])
    assert read_pid(engine)


def test_a_request_that_takes_too_long_ends_the_process(start: Callable[..., ScoringProcess]) -> None:
    engine = start(request_seconds=0.5)
    with pytest.raises(EngineError, match="longer than"):
        engine.score(FakeChatEngine().chat_model, [14])
    assert not engine.running


def test_an_idle_process_ends(start: Callable[..., ScoringProcess]) -> None:
    engine = start(idle_seconds=0.05)
    pid = read_pid(engine)
    wait_for(lambda: not engine.running)
    assert not psutil.pid_exists(pid)
    assert read_pid(engine) != pid


def test_what_it_refuses_comes_as_the_port_says(start: Callable[..., ScoringProcess], tmp_path: Path) -> None:
    engine, model = start(), FakeChatEngine().chat_model
    with pytest.raises(ValueError, match="no token 15"):
        engine.score(model, [15])
    with pytest.raises(EngineError, match="does not fit"):
        engine.score(model, [16])
    with pytest.raises(UnknownModelError):
        engine.score("nope", [1])
    with pytest.raises(ContextTooLongError):
        engine.score(model, [1] * 51)
    missing = start((str(tmp_path / "python"), "-m", "x"))
    with pytest.raises(UnsupportedError, match="trainer's environment") as refused:
        missing.score(model, [1])
    assert refused.value.param == "logprobs" and missing.ready


def test_closing_ends_a_request_that_waits(start: Callable[..., ScoringProcess]) -> None:
    engine = start()
    pid = read_pid(engine)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            engine.score(FakeChatEngine().chat_model, [14])
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    engine.close()  # wherever the request is by now
    thread.join(10)
    assert isinstance(errors[0], NotReadyError)
    assert not psutil.pid_exists(pid) and not engine.running
    with pytest.raises(NotReadyError):
        engine.score(FakeChatEngine().chat_model, [1])
