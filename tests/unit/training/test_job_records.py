"""What tracker, registry and ledger keep of a job, to the last value, and what a person is told of it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from deployments.training import jobs, records
from deployments.training.jobs import (
    JobEndedError,
    Purchase,
    attach_or_create,
    open_run,
    record_failure,
    record_result,
    release_failed_jobs,
    stop_job,
)
from deployments.training.proposals import Order
from deployments.training.results import Point
from deployments.training.tracking.fake import FakeTracker
from deployments.training.tuning.fake import RESULTS, FakeTuning
from deployments.training.tuning.port import (
    TuningError,
    TuningJob,
    TuningUnavailableError,
    UnknownJobError,
)
from shared import contracts
from shared.ledger.models import FineTuningJob
from shared.registry.fake import FakeRegistry

Sessions = sessionmaker[Session]
AGAIN = "`ghostwriter train start` or the Dag start_training tries again"


class Provider(FakeTuning):
    """Notes what it was asked to train on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Order, str, str]] = []

    def create_job(self, order: Order, training_file: str, validation_file: str) -> TuningJob:
        self.asked.append((order, self.files[training_file][0], self.files[validation_file][0]))
        return super().create_job(order, training_file, validation_file)


class Tracker(FakeTracker):
    """Notes where a data set lies, too."""

    def __init__(self) -> None:
        super().__init__()
        self.located: list[tuple[Any, ...]] = []

    def log_dataset(
        self, run_id: str, name: str, digest: str, location: str, counts: Mapping[str, Any]
    ) -> None:
        super().log_dataset(run_id, name, digest, location, counts)
        self.located.append((run_id, name, digest, location, dict(counts)))


@pytest.fixture
def tuning() -> Provider:
    return Provider()


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def read_row(sessions: Sessions, purchase: Purchase) -> FineTuningJob:
    with sessions() as session:
        row = records.find_job(session, purchase.order)
    assert row is not None
    return row


# --- asking for a job ---
def test_the_order_is_bought_with_its_two_files(
    purchase: Purchase, sessions: Sessions, tuning: Provider
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    stem = purchase.order.training_set[:16]
    assert tuning.asked == [(purchase.order, f"{stem}-train.jsonl", f"{stem}-validation.jsonl")]
    with sessions() as session:
        frozen = records.get_training_set(session, purchase.order.training_set)
    assert [content for _, content in tuning.files.values()] == [
        Path(frozen.train_file).read_bytes(), Path(frozen.validation_file).read_bytes(),
    ]  # fmt: skip
    row = read_row(sessions, purchase)
    assert (row.job_id, row.status, row.asked_at) == (job.id, "running", None)


def test_what_is_told_of_a_job_that_ended_is_gone_or_is_not_ours(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    honest = tuning.jobs[job.id]

    def fail(expected: type[Exception]) -> str:
        with pytest.raises(expected) as error:
            attach_or_create(purchase.order, sessions, tuning)
        assert type(error.value) is expected
        return str(error.value)

    tuning.jobs[job.id] = replace(honest, id="ftjob-7")
    assert fail(TuningError) == "The provider was asked for job ftjob-1 and answered with ftjob-7."
    tuning.jobs[job.id] = replace(honest, metadata={**honest.metadata, "ghostwriter_settings": "x"})
    assert fail(TuningError) == (
        f"Job ftjob-1 is not ours: it carries {tuning.jobs[job.id].metadata}. Look at the provider."
    )
    tuning.jobs.clear()
    assert fail(UnknownJobError) == f"The job 'ftjob-1' does not exist.; {AGAIN}"
    tuning.jobs[job.id] = honest
    tuning.finish(job.id, "failed")
    told = record_failure(
        tuning.jobs[job.id], open_run(purchase, job, sessions, tracker, ""), sessions, tracker
    )
    assert told == f"Job ftjob-1 has failed: it broke; {AGAIN}"
    assert fail(JobEndedError) == f"{told}; clearing this task does, too"


def test_a_second_question_waits_for_two_minutes(
    purchase: Purchase, sessions: Sessions, tuning: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    now = noon
    monkeypatch.setattr(jobs, "utc_now", lambda: now)

    def give_no_answer(*_: object) -> TuningJob:
        raise TuningUnavailableError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "create_job", give_no_answer)
        with pytest.raises(TuningUnavailableError, match="no answer"):
            attach_or_create(purchase.order, sessions, tuning)
    assert read_row(sessions, purchase).asked_at == noon
    now = noon + timedelta(minutes=2, microseconds=-1)
    with pytest.raises(TuningUnavailableError) as error:
        attach_or_create(purchase.order, sessions, tuning)
    assert str(error.value) == (
        "A job was asked for at 12:00:00 and no answer came; the provider lists none yet. "
        "Not before 12:02:00 UTC is another asked for."
    )
    assert tuning.asked == []
    now = noon + timedelta(minutes=2)
    assert attach_or_create(purchase.order, sessions, tuning).id == "ftjob-1"


def test_after_a_refusal_there_is_no_answer_to_wait_for(
    purchase: Purchase, sessions: Sessions, tuning: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> TuningJob:
        raise TuningError("no money")

    monkeypatch.setattr(tuning, "create_job", refuse)
    with pytest.raises(TuningError, match="no money"):
        attach_or_create(purchase.order, sessions, tuning)
    assert read_row(sessions, purchase).asked_at is None


@pytest.mark.parametrize("asked_at", [None, datetime(2026, 1, 1, tzinfo=UTC)])
def test_of_two_tasks_that_ask_at_once_one_gives_way(
    purchase: Purchase,
    sessions: Sessions,
    tuning: Provider,
    monkeypatch: pytest.MonkeyPatch,
    asked_at: datetime | None,
) -> None:
    """Between this task's note that it asks and its question another one has asked, or has its answer."""
    begin, calls = sessions.begin, []

    def interfere() -> Any:
        calls.append(1)
        if len(calls) == 2:
            with begin() as session:
                records.reserve_job(session, purchase.order).asked_at = asked_at
        return begin()

    monkeypatch.setattr(sessions, "begin", interfere)
    with pytest.raises(TuningUnavailableError) as error:
        attach_or_create(purchase.order, sessions, tuning)
    assert str(error.value) == "Another task was faster to ask for this job."
    assert tuning.asked == []
    assert read_row(sessions, purchase).asked_at == asked_at


# --- what came to nothing ---
def test_each_job_without_a_recorded_end_is_asked_for(
    purchase: Purchase, sessions: Sessions, tuning: Provider
) -> None:
    """One is gone, one is another's and runs, one was cancelled there, one of ours runs on."""
    order = purchase.order
    orders = [replace(order, n_epochs=number) for number in range(1, 5)]
    ids = [attach_or_create(each, sessions, tuning).id for each in orders]
    del tuning.jobs[ids[0]]
    tuning.jobs[ids[1]] = replace(tuning.jobs[ids[1]], metadata={"ghostwriter_training_set": "another"})
    tuning.finish(ids[2], "cancelled")
    with sessions() as session:
        before = records.find_job(session, orders[3])
    assert release_failed_jobs(sessions, tuning) == 3
    with sessions() as session:
        assert [records.find_job(session, each) for each in orders[:3]] == [None, None, None]
        after = records.find_job(session, orders[3])
    assert before is not None and after is not None
    assert (after.id, after.status, after.finished_at) == (before.id, "running", None)
    assert release_failed_jobs(sessions, tuning) == 0


def test_a_stopped_job_closes_its_run_where_it_has_one(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    stop_job(job.id, sessions, tuning, tracker)  # before a run was opened
    row = read_row(sessions, purchase)
    assert (row.status, row.job_id, row.error, row.finished_at is None) == ("cancelled", job.id, None, False)
    assert tracker.runs == {}
    release_failed_jobs(sessions, tuning)
    stop_job(job.id, sessions, tuning, tracker)  # its row is gone
    assert tracker.runs == {}


def test_a_job_that_ended_well_before_it_was_stopped_keeps_its_run_open(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    stop_job(job.id, sessions, tuning, tracker)
    assert tracker.runs[run_id]["status"] == "RUNNING"
    row = read_row(sessions, purchase)
    assert (row.status, row.finished_at) == ("running", None)


def test_a_failure_of_a_replaced_job_blames_no_other(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    stray = replace(job, id="ftjob-0", status="failed")
    told = record_failure(stray, run_id, sessions, tracker)
    assert told == "Job ftjob-0 came to nothing, and a person has asked for another."
    assert tracker.runs[run_id]["status"] == "FAILED"
    assert read_row(sessions, purchase).status == "running"


# --- what is kept ---
def test_a_run_says_what_was_ordered(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "airflow-run")
    order, digest = purchase.order, purchase.order.training_set
    assert tracker.runs == {
        run_id: {
            "name": f"fine-tune {digest[:8]}",
            "key": job.id,
            "tags": {
                "ghostwriter.job_id": job.id,
                "ghostwriter.training_set": digest,
                "ghostwriter.airflow_run": "airflow-run",
            },
            "params": {
                "model": order.model, "n_epochs": "2", "learning_rate_multiplier": "1.0", "suffix": order.suffix,
                "training_set": digest, "job_id": job.id,
            },
            "points": set(), "files": {}, "tables": {}, "datasets": {"training_set": digest}, "status": "RUNNING",
        }
    }  # fmt: skip
    with sessions() as session:
        frozen = records.get_training_set(session, digest)
    counts = {"train": 6, "validation": 6, "holdout": 6}
    assert tracker.located == [(run_id, "training_set", digest, frozen.train_file, counts)]
    assert read_row(sessions, purchase).mlflow_run_id == run_id


def succeed(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker, **changes: Any
) -> tuple[TuningJob, str]:
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    tuning.jobs[job.id] = replace(tuning.jobs[job.id], **changes)
    return tuning.jobs[job.id], run_id


def test_a_result_is_kept_whole(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker, registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    curve = [
        Point("train_loss", 1, 2.0),
        Point("valid_loss", 1, 2.1),
        Point("train_loss", 2, 1.0),
        Point("valid_loss", 2, 1.4),
    ]
    drawn: list[Any] = []
    monkeypatch.setattr(jobs, "draw_curve", lambda points, title: drawn.append((points, title)) or b"png")
    job, run_id = succeed(purchase, sessions, tuning, tracker, trained_tokens=900)
    params = dict(tracker.runs[run_id]["params"])
    version = record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    assert (version.model_id, version.run_id, version.training_set, version.job_id) == (
        "ft:base:ftjob-1", run_id, purchase.order.training_set, "ftjob-1",
    )  # fmt: skip
    run = tracker.runs[run_id]
    totals = [Point("trained_tokens", 0, 900.0), Point("cost", 0, 0.5), Point("seconds", 0, 60.0)]
    assert run["points"] == {*totals, *curve}
    assert run["params"] == {**params, "fine_tuned_model": "ft:base:ftjob-1", "currency": "USD"}
    with sessions() as session:
        frozen = records.get_training_set(session, purchase.order.training_set)
    assert run["files"] == {
        "training_set/train.jsonl": Path(frozen.train_file).read_bytes(),
        "training_set/validation.jsonl": Path(frozen.validation_file).read_bytes(),
        "training_set/holdout.jsonl": Path(frozen.holdout_file).read_bytes(),
        "results/results.csv": RESULTS,
        "results/curve.png": b"png",
    }
    assert drawn == [(curve, "base, ftjob-1")]
    assert run["status"] == "FINISHED"
    row = read_row(sessions, purchase)
    assert (row.status, row.model_id, row.model_version) == ("succeeded", version.model_id, version.version)
    assert (row.trained_tokens, row.seconds, row.error) == (900, 60.0, None)


def test_what_a_provider_leaves_out_is_counted_or_left_out(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker, registry: FakeRegistry
) -> None:
    job, run_id = succeed(
        purchase, sessions, tuning, tracker, trained_tokens=None, finished_at=None, result_files=()
    )
    record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    assert tracker.runs[run_id]["points"] == {
        Point("trained_tokens", 0, 1000.0), Point("cost", 0, 0.5), Point("seconds", 0, 0.0),
    }  # fmt: skip
    assert {name.split("/")[0] for name in tracker.runs[run_id]["files"]} == {"training_set"}
    row = read_row(sessions, purchase)
    assert (row.status, row.seconds, row.trained_tokens) == ("succeeded", None, None)


def test_a_result_whose_row_is_gone_gets_a_row(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker, registry: FakeRegistry
) -> None:
    job, run_id = succeed(purchase, sessions, tuning, tracker, result_files=())
    with sessions.begin() as session:
        session.query(FineTuningJob).delete()
    version = record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    row = read_row(sessions, purchase)
    assert (row.status, row.job_id, row.model_version) == ("succeeded", job.id, version.version)


def test_unreadable_results_are_kept_as_they_came(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker, registry: FakeRegistry
) -> None:
    job, run_id = succeed(purchase, sessions, tuning, tracker)
    tuning.files[job.result_files[0]] = ("x", b"<html>")
    record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    files = tracker.runs[run_id]["files"]
    assert {name: files[name] for name in files if name.startswith("results")} == {
        "results/results.bin": b"<html>"
    }
    assert tracker.runs[run_id]["status"] == "FINISHED"


def test_a_new_version_challenges_another_champion(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker, registry: FakeRegistry
) -> None:
    registry.register(model_id="ft:old", run_id="r", training_set="s", job_id="ftjob-0")
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    job, run_id = succeed(purchase, sessions, tuning, tracker, result_files=())
    version = record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    challenger, champion = (registry.get_by_alias(alias) for alias in ("challenger", "champion"))
    assert challenger is not None and champion is not None
    assert (challenger.version, champion.version) == (version.version, "1") == ("2", "1")


@pytest.mark.parametrize(
    "changes",
    [{"fine_tuned_model": None}, {"status": "failed"}, {"status": "running", "fine_tuned_model": None}],
)
def test_nothing_is_registered_of_a_job_without_a_model(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: Tracker, registry: FakeRegistry,
    changes: dict[str, Any],
) -> None:  # fmt: skip
    job, run_id = succeed(purchase, sessions, tuning, tracker, **changes)
    with pytest.raises(ValueError) as error:
        record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    told = f"Job ftjob-1 has {job.status} and names no model: there is nothing to register."
    assert str(error.value) == told
    assert registry.list_versions() == []
