"""The operator beside the buying: how it waits, where its links lead, what it says to Airflow and to lineage."""

from dataclasses import asdict
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
from sqlalchemy.orm import Session, sessionmaker

from deployments.training import abandonment, composition
from deployments.training.abandonment import read_state, stop_job_if_given_up
from deployments.training.jobs import Purchase
from deployments.training.operators import fine_tune
from deployments.training.operators.fine_tune import FineTuneOperator, JobLink, RunLink
from deployments.training.tracking.fake import FakeTracker
from deployments.training.triggers.fine_tune import FineTuneTrigger
from deployments.training.tuning.fake import FakeTuning
from deployments.training.tuning.port import TuningUnavailableError
from shared import contracts
from shared.registry.fake import FakeRegistry
from shared.settings import Settings

Sessions = sessionmaker[Session]
SETTINGS = Settings().model_copy(update={"llm_base_url": "http://llm:1/v1/"})
AGAIN = "`ghostwriter train start` or the Dag start_training tries again"


class World(SimpleNamespace):
    """The parts that the operator finds, Airflow's side of a task, a clock, and what was said to lineage."""

    sessions: Sessions
    tuning: FakeTuning
    tracker: FakeTracker
    registry: FakeRegistry
    pushed: dict[str, Any]
    told: list[dict[str, Any]]
    now: float
    sleeps: list[float]

    def execute(self, operator: FineTuneOperator) -> Any:
        """One try of the task."""
        task = SimpleNamespace(
            dag_id="fine_tune", task_id="fine_tune", run_id="run-7", try_number=1, max_tries=0,
            xcom_push=lambda key, value: self.pushed.update({key: value}),
        )  # fmt: skip
        return operator.execute({"ti": task, "run_id": "run-7"})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, sessions: Sessions) -> World:
    world = World(
        sessions=sessions, tuning=FakeTuning(), tracker=FakeTracker(), registry=FakeRegistry(), pushed={}, told=[],
        now=1000.0, sleeps=[],
    )  # fmt: skip
    parts = {
        "ledger": sessions, "tuning": world.tuning, "tracker": world.tracker, "registry": world.registry,
    }  # fmt: skip

    def give(part: Any) -> Any:
        def create(settings: Settings) -> Any:
            assert settings is SETTINGS
            return part

        return create

    for name, part in parts.items():
        monkeypatch.setattr(composition, f"create_{name}", give(part))

    def sleep(seconds: float) -> None:
        world.sleeps.append(seconds)
        world.now += seconds

    monkeypatch.setattr(fine_tune, "time", SimpleNamespace(monotonic=lambda: world.now, sleep=sleep))
    monkeypatch.setattr(fine_tune, "get_settings", lambda: SETTINGS)
    monkeypatch.setattr(abandonment, "get_settings", lambda: SETTINGS)
    monkeypatch.setattr(fine_tune, "record_lineage", lambda **said: world.told.append(said))
    return world


def create(purchase: Purchase, **changes: Any) -> FineTuneOperator:
    return FineTuneOperator(task_id="fine_tune", purchase=asdict(purchase), **changes)


def test_it_defers_to_a_trigger_that_watches_the_job(purchase: Purchase, world: World) -> None:
    operator = create(purchase)
    with pytest.raises(TaskDeferred) as deferred:
        world.execute(operator)
    path = "deployments.training.triggers.fine_tune.FineTuneTrigger"
    expected = {"job_id": "ftjob-1", "poll_interval": 5.0, "patience": 900.0}
    assert deferred.value.trigger.serialize() == (path, expected)
    assert (deferred.value.method_name, deferred.value.timeout) == ("execute_complete", timedelta(hours=24))
    assert world.pushed == {"job_id": "ftjob-1"}
    (run,) = world.tracker.runs.values()
    assert run["tags"]["ghostwriter.airflow_run"] == "run-7"
    assert operator.job_id == "ftjob-1"
    assert operator.instance.run_id == "run-7"


def test_what_a_dag_asks_for_is_taken_but_never_a_question_within_three_seconds(
    purchase: Purchase, world: World
) -> None:
    operator = create(purchase, poll_interval=1.0, patience=7.0, timeout=timedelta(hours=1))
    with pytest.raises(TaskDeferred) as deferred:
        world.execute(operator)
    trigger = deferred.value.trigger
    assert isinstance(trigger, FineTuneTrigger)
    assert trigger.serialize()[1] == {"job_id": "ftjob-1", "poll_interval": 3.0, "patience": 7.0}
    assert deferred.value.timeout == timedelta(hours=1)
    assert create(purchase, poll_interval=3.5).poll_interval == 3.5


def test_links_lead_to_the_job_and_to_its_run(purchase: Purchase, world: World) -> None:
    operator = create(purchase, wait_for_completion=False)
    key: Any = None
    assert (JobLink().get_link(operator, ti_key=key), RunLink().get_link(operator, ti_key=key)) == ("", "")
    assert world.execute(operator) == "ftjob-1"
    assert JobLink().get_link(operator, ti_key=key) == "http://llm:1/v1/fine_tuning/jobs/ftjob-1"
    assert RunLink().get_link(operator, ti_key=key) == "fake://runs/run-1"
    other: Any = object()
    assert (JobLink().get_link(other, ti_key=key), RunLink().get_link(other, ti_key=key)) == ("", "")
    assert world.registry.list_versions() == []
    assert world.sleeps == []


def test_a_worker_may_wait_itself_and_bears_a_silent_provider(
    purchase: Purchase, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, script = world.tuning.retrieve_job, iter(["", "down", "down", "up", "down", "finish"])

    def step(job_id: str) -> Any:
        now = next(script)
        world.tuning.down = now == "down"
        if now == "finish":
            assert operator.job_id == job_id  # a kill would know what to stop
            world.tuning.finish(job_id)
        return ask(job_id)

    monkeypatch.setattr(world.tuning, "retrieve_job", step)
    operator = create(purchase, deferrable=False, patience=5.5)
    assert world.execute(operator) == "ft:base:ftjob-1"
    assert world.sleeps == [5.0] * 6
    assert operator.job_id == ""
    (version,) = world.registry.list_versions()
    assert world.told == [
        {
            "inputs": {
                contracts.TRAINING_SET: {"version": purchase.order.training_set},
                contracts.ADAPTERS: {"version": "ft:base:ftjob-1"},
            },
            "outputs": {contracts.MODEL: {"version": version.version}},
            "run": {"job_id": "ftjob-1", "mlflow_run_id": "run-1"},
        }
    ]
    assert operator.job_url == "http://llm:1/v1/fine_tuning/jobs/ftjob-1"
    assert operator.run_url == "fake://runs/run-1"


def test_a_provider_that_is_silent_for_too_long_ends_the_wait(
    purchase: Purchase, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_down(job_id: str) -> Any:
        raise TuningUnavailableError("down")

    monkeypatch.setattr(world.tuning, "retrieve_job", be_down)
    with pytest.raises(TuningUnavailableError, match="down"):
        world.execute(create(purchase, deferrable=False, patience=10.0))
    assert world.sleeps == [5.0] * 3  # silent at 5, 10 and 15


def test_a_wait_in_a_worker_ends_at_its_timeout(purchase: Purchase, world: World) -> None:
    with pytest.raises(AirflowException) as error:
        world.execute(create(purchase, deferrable=False, timeout=timedelta(seconds=15)))
    assert str(error.value) == "Job ftjob-1 has not ended within 0:00:15. A retry re-attaches."
    assert not isinstance(error.value, AirflowFailException)
    assert world.sleeps == [5.0] * 3


def test_a_job_that_has_ended_is_recorded_at_once(purchase: Purchase, world: World) -> None:
    world.execute(create(purchase, wait_for_completion=False))
    world.tuning.finish("ftjob-1")
    for deferrable in (True, False):
        operator = create(purchase, deferrable=deferrable)
        assert world.execute(operator) == "ft:base:ftjob-1"
        assert (operator.job_id, world.sleeps) == ("", [])


def resume(purchase: Purchase, status: str, job_id: str = "ftjob-1", **more: str) -> Any:
    return create(purchase).execute_complete({}, {"job_id": job_id, "status": status, "error": "", **more})


def test_what_the_trigger_says_is_looked_up(purchase: Purchase, world: World) -> None:
    world.execute(create(purchase, wait_for_completion=False))
    with pytest.raises(AirflowException) as error:
        resume(purchase, "lost", error="no answer for 900 s")
    assert str(error.value) == "Lost sight of job ftjob-1: no answer for 900 s. A retry re-attaches."
    assert not isinstance(error.value, AirflowFailException)
    with pytest.raises(AirflowFailException) as refused:
        resume(purchase, "succeeded", "ftjob-9")
    assert str(refused.value) == "The job 'ftjob-9' does not exist."
    world.tuning.finish("ftjob-1", "failed")
    with pytest.raises(AirflowFailException) as failed:
        resume(purchase, "failed")
    assert str(failed.value) == f"Job ftjob-1 has failed: it broke; {AGAIN}"
    assert world.tracker.runs["run-1"]["status"] == "FAILED"


def test_a_run_that_the_tracker_has_lost_is_opened_again(purchase: Purchase, world: World) -> None:
    world.execute(create(purchase, wait_for_completion=False))
    world.tracker.runs.clear()
    world.tuning.finish("ftjob-1")
    assert resume(purchase, "succeeded") == "ft:base:ftjob-1"
    (run,) = world.tracker.runs.values()
    assert (run["status"], run["tags"]["ghostwriter.airflow_run"]) == ("FINISHED", "")


# --- a kill ---
def test_a_kill_asks_beside_the_task_and_not_for_long(
    purchase: Purchase, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow kills what has not ended within 5 s, and a thread that hangs must not keep the process alive."""
    seen: list[Any] = []

    class Thread:
        def __init__(self, **arguments: Any) -> None:
            seen.append(arguments)

        def start(self) -> None:
            seen.append("start")

        def join(self, seconds: float) -> None:
            seen.append(seconds)

    monkeypatch.setattr(fine_tune, "Thread", Thread)
    operator = create(purchase)
    operator.on_kill()
    assert seen == []
    operator.job_id, operator.instance = "ftjob-1", "the task"
    operator.on_kill()
    arguments = {"target": stop_job_if_given_up, "args": ("the task", "ftjob-1"), "daemon": True}
    assert seen == [arguments, "start", 4.0]


class Comms:
    """The line to Airflow: what it answers."""

    def __init__(self, states: dict[str, Any]) -> None:
        self.states = states

    def send(self, msg: GetTaskStates) -> TaskStatesResult:
        assert (msg.dag_id, msg.run_ids, msg.task_ids) == ("dag", ["run"], ["task"])
        return TaskStatesResult(task_states=self.states)


TASK = SimpleNamespace(dag_id="dag", task_id="task", run_id="run")


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ({"run": {"task": "failed"}}, "failed"),
        ({"run": {"task": None}}, None),
        ({"run": {"other": "failed"}}, None),
        ({"other": {"task": "failed"}}, None),
        ({}, None),
    ],
)
def test_a_task_that_airflow_does_not_know_has_no_state(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, Any], state: str | None
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(states), raising=False)
    assert read_state(TASK) == state


def test_a_job_that_is_given_up_is_stopped_and_its_run_closed(
    purchase: Purchase, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.execute(create(purchase, wait_for_completion=False))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms({"run": {"task": "success"}}), raising=False)
    stop_job_if_given_up(TASK, "ftjob-1")
    assert world.tuning.jobs["ftjob-1"].status == "cancelled"
    assert world.tracker.runs["run-1"]["status"] == "FAILED"
