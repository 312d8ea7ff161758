"""The trigger: fires when the job ends, waits out a silent provider, carries no secret."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("airflow")

from deployments.training.proposals import Order
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
    tuning.create_job(ORDER, "f", "f")
    return tuning


def fire(trigger: Trigger, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    watch = trigger.tuning.watch_job

    async def step(job_id: str) -> Any:
        match next(trigger.script, ""):
            case "down":
                trigger.tuning.down = True
            case "up":
                trigger.tuning.down = False
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


def test_a_restart_of_the_provider_is_waited_out(tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fire(Trigger(tuning, "down wait wait up succeeded"), monkeypatch)["status"] == "succeeded"


def test_silence_ends_the_wait(tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = fire(Trigger(tuning, "down", patience=0.0), monkeypatch)
    assert payload["status"] == "lost"
    assert "down" in payload["error"]


def test_a_job_that_is_gone_ends_the_wait(tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning.jobs.clear()
    assert fire(Trigger(tuning, ""), monkeypatch)["status"] == "lost"


def test_killing_the_task_cancels_the_job(tuning: FakeTuning) -> None:
    asyncio.run(Trigger(tuning, "").on_kill())
    assert tuning.jobs["ftjob-1"].status == "cancelled"


def test_it_can_be_rebuilt_from_what_it_serializes() -> None:
    path, arguments = FineTuneTrigger("ftjob-1", 7.0, 60.0).serialize()
    assert path == "deployments.training.triggers.fine_tune.FineTuneTrigger"
    assert arguments == {"job_id": "ftjob-1", "poll_interval": 7.0, "patience": 60.0}
