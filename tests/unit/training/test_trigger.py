"""The trigger: fires when the job ends, waits out a silent provider, carries no secret."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

from deployments.training import composition
from deployments.training.proposals import Order
from deployments.training.tracking.fake import FakeTracker
from deployments.training.triggers import fine_tune
from deployments.training.triggers.fine_tune import FineTuneTrigger
from deployments.training.tuning.fake import FakeTuning
from deployments.training.tuning.port import TuningApi

ORDER = Order("set-1", "base", 2, 1.0, "notes")


class Trigger(FineTuneTrigger):
    """Over a fake provider that changes by one step of `script` before each question."""

    def __init__(self, tuning: FakeTuning, script: str, patience: float = 60.0) -> None:
        super().__init__("ftjob-1", poll_interval=0.0, patience=patience)
        self.tuning, self.script = tuning, iter(script.split())

    async def connect(self) -> TuningApi:
        return self.tuning


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch) -> FakeTuning:
    monkeypatch.setattr(fine_tune, "FIRST_POLL", 0.0)
    tuning = FakeTuning()
    tuning.files["f"] = ("f", b"")
    tuning.create_job(ORDER, "f", "f", "key")
    return tuning


def fire(trigger: Trigger, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    watch = trigger.tuning.watch_job

    async def step(job_id: str) -> Any:
        match next(trigger.script, ""):
            case "down":
                trigger.tuning.down = True
            case "up":
                trigger.tuning.down = False
            case "paused" | "running" as status:
                trigger.tuning.change(job_id, status)
            case "succeeded" | "failed" as status:
                trigger.tuning.finish(job_id, status)
        return await watch(job_id)

    monkeypatch.setattr(trigger.tuning, "watch_job", step)

    async def first() -> dict[str, Any]:
        async for event in trigger.run():
            return dict(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(asyncio.wait_for(first(), 20))


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_it_fires_when_the_job_ends(tuning: FakeTuning, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = fire(Trigger(tuning, f"running running {status}"), monkeypatch)
    assert (payload["job_id"], payload["status"]) == ("ftjob-1", status)


def test_a_job_that_a_person_paused_is_waited_for(
    tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = fire(Trigger(tuning, "paused paused running succeeded"), monkeypatch)
    assert event["status"] == "succeeded"


def test_a_restart_of_the_provider_is_waited_out(tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fire(Trigger(tuning, "down wait wait up succeeded"), monkeypatch)["status"] == "succeeded"


def test_silence_ends_the_wait(tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = fire(Trigger(tuning, "down", patience=0.0), monkeypatch)
    assert payload["status"] == "lost"
    assert "down" in payload["error"]


def test_a_job_that_is_gone_ends_the_wait(tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning.jobs.clear()
    assert fire(Trigger(tuning, ""), monkeypatch)["status"] == "lost"


class Comms:
    """The triggerer's line to Airflow: it knows the state of the one task, and tells it when it may."""

    def __init__(self, state: str | None) -> None:
        self.state, self.may_answer = state, threading.Event()
        self.may_answer.set()

    def send(self, msg: GetTaskStates) -> TaskStatesResult:
        assert self.may_answer.wait(20)
        return TaskStatesResult(task_states={"run": {"fine_tune": self.state}})


@pytest.fixture
def waiting(tuning: FakeTuning, sessions: Any, monkeypatch: pytest.MonkeyPatch) -> FineTuneTrigger:
    """A trigger that waits for the job of a task."""
    parts = {"ledger": sessions, "tuning": tuning, "tracker": FakeTracker()}
    for name, part in parts.items():
        monkeypatch.setattr(composition, f"create_{name}", lambda _settings, part=part: part)
    trigger = FineTuneTrigger("ftjob-1")
    trigger.task_instance = SimpleNamespace(dag_id="fine_tune", task_id="fine_tune", run_id="run")  # type: ignore[assignment]
    return trigger


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("failed", "cancelled"),
        ("success", "cancelled"),
        (None, "running"),  # cleared; what follows is the next try
        ("scheduled", "running"),
        ("queued", "running"),
        ("running", "running"),
        ("deferred", "running"),
    ],
)
def test_a_mark_cancels_the_job_and_a_clear_does_not(
    waiting: FineTuneTrigger,
    tuning: FakeTuning,
    monkeypatch: pytest.MonkeyPatch,
    state: str | None,
    status: str,
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(state), raising=False)
    asyncio.run(waiting.on_kill())
    assert tuning.jobs["ftjob-1"].status == status


def test_a_job_is_cancelled_although_the_triggerer_gives_no_time(
    waiting: FineTuneTrigger, tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow cancels `on_kill` itself with its next heartbeat, a moment later."""
    comms = Comms("failed")
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
    comms.may_answer.clear()

    async def kill() -> None:
        killing = asyncio.ensure_future(waiting.on_kill())
        await asyncio.sleep(0)  # it begins
        killing.cancel()
        await asyncio.wait([killing])
        comms.may_answer.set()

    asyncio.run(kill())  # waits for its threads
    assert tuning.jobs["ftjob-1"].status == "cancelled"


def test_it_can_be_rebuilt_from_what_it_serializes() -> None:
    path, arguments = FineTuneTrigger("ftjob-1", 7.0, 60.0).serialize()
    assert path == "deployments.training.triggers.fine_tune.FineTuneTrigger"
    assert arguments == {"job_id": "ftjob-1", "poll_interval": 7.0, "patience": 60.0}
