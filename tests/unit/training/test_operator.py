"""The operator as Airflow tries it: a job is bought once, and again only when a person wants it."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
from airflow.sdk.execution_time.context import set_current_context
from sqlalchemy.orm import Session, sessionmaker

from deployments.training import composition, records, tasks, tokens
from deployments.training.jobs import Purchase, attach_or_create
from deployments.training.operators.fine_tune import FineTuneOperator
from deployments.training.tracking.fake import FakeTracker
from deployments.training.tuning.fake import FakeTuning
from deployments.training.tuning.port import TuningJob, TuningUnavailableError
from shared.ledger.models import FineTuningJob, utc_now
from shared.llm.fake import FakeLlm
from shared.llm.port import LlmError
from shared.registry.fake import FakeRegistry
from shared.settings import Settings
from shared.voice import Voice

Sessions = sessionmaker[Session]
RETRIES = 6


@pytest.fixture
def llm() -> FakeLlm:
    return FakeLlm()


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch, sessions: Sessions, llm: FakeLlm) -> FakeTuning:
    """Every part that the operator finds in the composition."""
    parts = {
        "ledger": sessions, "tuning": FakeTuning(), "tracker": FakeTracker(), "registry": FakeRegistry(), "llm": llm,
    }  # fmt: skip
    for name, part in parts.items():
        monkeypatch.setattr(composition, f"create_{name}", lambda _settings, part=part: part)
    return parts["tuning"]  # type: ignore[return-value]


def run(purchase: Purchase, try_number: int, max_tries: int = RETRIES) -> Any:
    """One try of the task up to where it waits: the trigger it defers to, or what it returns."""
    operator = FineTuneOperator(task_id="fine_tune", purchase=asdict(purchase), retries=RETRIES)
    instance = SimpleNamespace(
        dag_id="fine_tune", task_id="fine_tune", run_id="run", map_index=-1, try_number=try_number, max_tries=max_tries,
        xcom_push=lambda **_: None,
    )  # fmt: skip
    context: Any = {"ti": instance, "run_id": "run"}
    try:
        with set_current_context(context):
            return operator.execute(context)
    except TaskDeferred as deferred:
        return deferred.trigger


def resume(purchase: Purchase, job_id: str, status: str) -> Any:
    operator = FineTuneOperator(task_id="fine_tune", purchase=asdict(purchase), retries=RETRIES)
    instance = SimpleNamespace(
        dag_id="fine_tune", task_id="fine_tune", run_id="run", map_index=-1, try_number=1
    )
    context: Any = {"ti": instance, "run_id": "run"}
    with set_current_context(context):
        return operator.execute_complete(context, {"job_id": job_id, "status": status, "error": ""})


def fail_once(purchase: Purchase, tuning: FakeTuning, status: str = "failed") -> str:
    job_id = str(run(purchase, 1).job_id)
    tuning.finish(job_id, status)
    with pytest.raises(AirflowFailException, match=f"Job {job_id} has .*`ghostwriter train start`"):
        resume(purchase, job_id, status)
    return job_id


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_seven_tries_after_a_failure_buy_nothing(purchase: Purchase, tuning: FakeTuning, status: str) -> None:
    job_id = fail_once(purchase, tuning, status)
    for try_number in range(1, RETRIES + 2):  # a worker that died on its way may make Airflow try again
        with pytest.raises(AirflowFailException, match=job_id):
            run(purchase, try_number)
    assert list(tuning.jobs) == [job_id]


def test_seven_tries_that_find_the_job_failed_buy_nothing(purchase: Purchase, tuning: FakeTuning) -> None:
    """It failed while nobody looked: no trigger fired, no failure is in the ledger yet."""
    job_id = run(purchase, 1).job_id
    tuning.finish(job_id, "failed")
    for try_number in range(1, RETRIES + 2):
        with pytest.raises(AirflowFailException, match="it broke"):
            run(purchase, try_number)
    assert list(tuning.jobs) == [job_id]


def test_another_run_buys_nothing_either(purchase: Purchase, tuning: FakeTuning) -> None:
    """Two events in a row made two runs; the second one begins when the first one's job has failed."""
    fail_once(purchase, tuning)
    with pytest.raises(AirflowFailException):
        run(purchase, 1)
    assert len(tuning.jobs) == 1


def test_clearing_the_failed_task_buys_one_more(purchase: Purchase, tuning: FakeTuning) -> None:
    first = fail_once(purchase, tuning)
    # A clear after try 1 leaves max_tries at 1 + RETRIES; the next try is 2.
    second = run(purchase, 2, max_tries=1 + RETRIES).job_id
    assert second != first
    tuning.finish(second, "failed")
    for try_number in range(3, 3 + RETRIES):
        with pytest.raises(AirflowFailException, match=second):
            run(purchase, try_number, max_tries=1 + RETRIES)
    assert list(tuning.jobs) == [first, second]


def test_clearing_the_waiting_task_re_attaches(purchase: Purchase, tuning: FakeTuning) -> None:
    first = run(purchase, 1).job_id
    assert run(purchase, 2, max_tries=1 + RETRIES).job_id == first
    assert list(tuning.jobs) == [first]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_start_by_hand_buys_one_more(
    purchase: Purchase, tuning: FakeTuning, sessions: Sessions, status: str
) -> None:
    fail_once(purchase, tuning, status)
    assert tasks.release_jobs(Settings()) == 1
    assert run(purchase, 1).job_id == "ftjob-2"


def test_a_start_by_hand_sees_a_job_that_was_cancelled_at_the_provider(
    purchase: Purchase, tuning: FakeTuning, sessions: Sessions
) -> None:
    """Nobody was there to record it: the next run would only have found out and failed."""
    first = run(purchase, 1).job_id
    assert tasks.release_jobs(Settings()) == 0  # it runs
    tuning.finish(first, "cancelled")
    assert tasks.release_jobs(Settings()) == 1
    assert run(purchase, 1).job_id == "ftjob-2"


def test_a_start_by_hand_forgets_a_job_that_the_provider_has_lost(
    purchase: Purchase, tuning: FakeTuning, sessions: Sessions
) -> None:
    first = run(purchase, 1).job_id
    tuning.jobs.clear()
    with pytest.raises(AirflowFailException, match=first):
        run(purchase, 2)
    assert tasks.release_jobs(Settings()) == 1
    assert run(purchase, 1).job_id in tuning.jobs


def train(purchase: Purchase, tuning: FakeTuning, llm: FakeLlm) -> str:
    """A whole job, up to the model that the provider serves from then on."""
    job_id = str(run(purchase, 1).job_id)
    tuning.finish(job_id)
    model = str(resume(purchase, job_id, "succeeded"))
    llm.answers[model] = "a post"
    return model


@pytest.mark.parametrize("job_is_lost", [True, False])
def test_a_model_that_the_provider_has_lost_is_trained_again_by_a_person_alone(
    purchase: Purchase, tuning: FakeTuning, llm: FakeLlm, prepare: Any, job_is_lost: bool
) -> None:
    model = train(purchase, tuning, llm)
    assert tasks.release_jobs(Settings()) == 0  # it is there
    del llm.answers[model]
    if job_is_lost:
        del tuning.jobs["ftjob-1"]
        tuning.jobs["ftjob-of-another"] = TuningJob("ftjob-of-another", "running", "base", 1)
    prepared = prepare(knows_model=llm.knows_model)
    assert prepared.outcome == "nothing_due"
    assert f"the model {model} is not at the provider any more; `ghostwriter train start`" in prepared.reason
    assert tasks.release_jobs(Settings()) == 1
    assert prepare(knows_model=llm.knows_model).outcome == "training_set"
    assert run(purchase, 1).job_id == "ftjob-2"
    assert run(purchase, 2).job_id == "ftjob-2"  # a retry attaches
    tuning.finish("ftjob-2")
    llm.answers[str(resume(purchase, "ftjob-2", "succeeded"))] = "a post"
    assert prepare(knows_model=llm.knows_model).outcome == "nothing_due"
    assert len(tuning.jobs) == 2


def test_a_lost_model_that_is_there_again_is_not_trained_again(
    purchase: Purchase, tuning: FakeTuning, llm: FakeLlm, prepare: Any
) -> None:
    """Another provider was tried for a day; then the first one came back."""
    model = train(purchase, tuning, llm)
    del llm.answers[model]
    assert tasks.release_jobs(Settings()) == 1
    llm.answers[model] = "a post"
    assert prepare(knows_model=llm.knows_model).outcome == "nothing_due"
    assert tasks.release_jobs(Settings()) == 0
    assert run(purchase, 1) == model
    assert list(tuning.jobs) == ["ftjob-1"]
    del llm.answers[model]
    assert prepare(knows_model=llm.knows_model).outcome == "nothing_due"  # for a person again


def test_a_provider_that_cannot_tell_its_models_buys_nothing(
    purchase: Purchase, tuning: FakeTuning, llm: FakeLlm, monkeypatch: pytest.MonkeyPatch, prepare: Any
) -> None:
    train(purchase, tuning, llm)

    def fail(model: str) -> bool:
        raise LlmError("it can't be reached")

    monkeypatch.setattr(llm, "knows_model", fail)
    assert tasks.release_jobs(Settings()) == 0
    assert prepare(knows_model=tasks.ask_for_models(Settings())).outcome == "nothing_due"
    assert run(purchase, 1) == "ft:base:ftjob-1"


@pytest.fixture
def lowered(
    purchase: Purchase,
    prepare: Any,
    voice: Voice,
    llm: FakeLlm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], tuple[str, Purchase]]:
    """What the check says once the budget is too low for the job."""
    monkeypatch.setattr(composition, "proposal_file", lambda _settings: tmp_path / "proposal.json")
    monkeypatch.setattr(tokens, "load_encoder", lambda *_: str.split)
    budget = voice.budget.model_copy(update={"max_training_cost": 0.0001})

    def check() -> tuple[str, Purchase]:
        prepare(voice=voice.model_copy(update={"budget": budget}), knows_model=llm.knows_model)
        verdict, raw = tasks.check(Settings())
        return verdict.outcome, tasks.read_purchase(raw)

    return check


@pytest.mark.parametrize("answered", [True, False])
def test_a_job_that_is_there_is_followed_whatever_the_budget_is_now(
    purchase: Purchase, tuning: FakeTuning, sessions: Sessions, lowered: Any, answered: bool
) -> None:
    """Its run was lost; nobody else would register the model that is being paid for."""
    assert lowered()[0] == "over_budget"
    job_id = run(purchase, 1).job_id
    if not answered:
        with sessions.begin() as session:
            row = records.reserve_job(session, purchase.order)
            row.job_id, row.asked_at = None, utc_now()
    outcome, followed = lowered()
    assert outcome == "fine_tune"
    assert run(followed, 1).job_id == job_id
    tuning.finish(job_id)
    assert resume(followed, job_id, "succeeded") == f"ft:base:{job_id}"


def test_what_is_followed_over_budget_is_never_bought_again(
    purchase: Purchase, tuning: FakeTuning, lowered: Any
) -> None:
    job_id = run(purchase, 1).job_id
    _, followed = lowered()
    tuning.finish(job_id, "failed")
    with pytest.raises(AirflowFailException):
        resume(followed, job_id, "failed")
    with pytest.raises(AirflowFailException, match="max_training_cost"):
        run(followed, 2, max_tries=1 + RETRIES)  # a person has cleared it
    assert list(tuning.jobs) == [job_id]
    tasks.release_jobs(Settings())
    assert lowered()[0] == "over_budget"


def test_a_job_that_never_began_stays_over_budget(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, lowered: Any
) -> None:
    with sessions.begin() as session:
        records.reserve_job(session, purchase.order).asked_at = utc_now()
    assert lowered()[0] == "over_budget"


def test_a_released_job_is_no_job_to_follow(
    purchase: Purchase, tuning: FakeTuning, llm: FakeLlm, lowered: Any
) -> None:
    del llm.answers[train(purchase, tuning, llm)]
    assert tasks.release_jobs(Settings()) == 1
    assert lowered()[0] == "over_budget"


def test_lost_and_down_are_retried(purchase: Purchase, tuning: FakeTuning) -> None:
    job_id = run(purchase, 1).job_id
    with pytest.raises(Exception, match="re-attaches") as lost:
        resume(purchase, job_id, "lost")
    assert not isinstance(lost.value, AirflowFailException)
    tuning.down = True
    with pytest.raises(TuningUnavailableError):
        run(purchase, 2)


def test_a_success_without_a_model_is_a_failure(
    purchase: Purchase, tuning: FakeTuning, sessions: Sessions
) -> None:
    job_id = run(purchase, 1).job_id
    tuning.finish(job_id)
    honest = tuning.jobs[job_id]
    object.__setattr__(honest, "fine_tuned_model", None)
    with pytest.raises(AirflowFailException, match="names no model"):
        resume(purchase, job_id, "succeeded")
    assert tasks.release_jobs(Settings()) == 1
    object.__setattr__(honest, "fine_tuned_model", "ft:late")
    assert run(purchase, 1) == "ft:late"  # the provider named it after all: nothing is bought
    assert list(tuning.jobs) == [job_id]


def test_a_row_that_an_older_version_left_behind_is_healed(
    purchase: Purchase, tuning: FakeTuning, sessions: Sessions, prepare: Any
) -> None:
    """It said "succeeded" before the model was registered, and was taken for done ever after."""
    job_id = run(purchase, 1).job_id
    tuning.finish(job_id)
    with sessions.begin() as session:
        row = session.query(FineTuningJob).one()
        row.status = "succeeded"
    assert prepare().outcome == "training_set"
    assert run(purchase, 1) == f"ft:base:{job_id}"
    assert prepare().outcome == "nothing_due"
    assert list(tuning.jobs) == [job_id]


class Comms:
    """The line to Airflow: it knows the state of the one task."""

    def __init__(self, state: str | None) -> None:
        self.state = state

    def send(self, msg: GetTaskStates) -> TaskStatesResult:
        assert (msg.dag_id, msg.run_ids, msg.task_ids) == ("fine_tune", ["run"], ["fine_tune"])
        return TaskStatesResult(task_states={"run": {"fine_tune": self.state}})


@pytest.mark.parametrize(
    ("state", "status"),
    [("failed", "cancelled"), ("success", "cancelled"), ("running", "running"), (None, "running")],
)
def test_only_a_mark_stops_the_job_of_a_task_that_is_killed(
    purchase: Purchase,
    tuning: FakeTuning,
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    state: str | None,
    status: str,
) -> None:
    """SIGTERM alone is a worker that is stopped: the task goes on, or its next try does."""
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(state), raising=False)
    job = attach_or_create(purchase.order, sessions, tuning)
    operator = FineTuneOperator(task_id="fine_tune", purchase=asdict(purchase))
    operator.job_id = job.id
    operator.instance = SimpleNamespace(dag_id="fine_tune", task_id="fine_tune", run_id="run")
    operator.on_kill()
    assert tuning.jobs[job.id].status == status
    with sessions() as session:
        assert records.is_settled(records.find_job(session, purchase.order)) == (status == "cancelled")
