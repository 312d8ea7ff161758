"""Asking for a job and what came to nothing: to the last value, and what a person is told of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deployments.training import jobs, records
from deployments.training.jobs import (
    JobEndedError,
    Purchase,
    attach_or_create,
    open_run,
    record_failure,
    release_jobs,
    stop_job,
)
from deployments.training.proposals import Order
from deployments.training.tuning.fake import FakeTuning
from deployments.training.tuning.port import (
    TuningError,
    TuningJob,
    TuningUnavailableError,
    UnknownJobError,
)
from tests.unit.training.conftest import NotingTracker, Sessions, read_row

AGAIN = "`ghostwriter train start` or the Dag start_training tries again"


class Provider(FakeTuning):
    """Notes what it was asked to train on."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Order, str, str]] = []
        self.keys: list[str] = []
        self.answers = True

    def create_job(self, order: Order, training_file: str, validation_file: str, key: str) -> TuningJob:
        self.asked.append((order, self.files[training_file][0], self.files[validation_file][0]))
        self.keys.append(key)
        job = super().create_job(order, training_file, validation_file, key)
        if not self.answers:
            raise TuningUnavailableError("no answer")
        return job


@pytest.fixture
def tuning() -> Provider:
    return Provider()


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
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: NotingTracker
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


# --- the key of a request ---
def end(sessions: Sessions, tuning: Provider, job_id: str, status: str = "failed") -> None:
    """The job came to nothing, and that is recorded."""
    tuning.finish(job_id, status)
    with sessions.begin() as session:
        row = records.find_job_by_id(session, job_id)
        assert row is not None
        records.finish_job(row, tuning.jobs[job_id])


def wait_long(sessions: Sessions, purchase: Purchase) -> None:
    """As if the two minutes were over."""
    with sessions.begin() as session:
        row = records.reserve_job(session, purchase.order)
        assert row.asked_at is not None
        row.asked_at -= jobs.ANSWER_WITHIN


def test_a_job_that_no_list_shows_is_not_bought_twice_where_the_provider_knows_keys(
    purchase: Purchase, sessions: Sessions, tuning: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its list is late by more than we wait, or keeps no metadata."""
    monkeypatch.setattr(tuning, "find_job", lambda *_, **__: None)
    tuning.answers = False
    with pytest.raises(TuningUnavailableError, match="no answer"):
        attach_or_create(purchase.order, sessions, tuning)
    tuning.answers = True
    wait_long(sessions, purchase)
    assert attach_or_create(purchase.order, sessions, tuning).id == "ftjob-1"
    first, second = tuning.keys
    assert first == second
    assert (len(tuning.jobs), len(first)) == (1, 64)


@pytest.mark.parametrize("lists", [True, False])
def test_a_job_that_replaces_another_has_another_key(
    purchase: Purchase, sessions: Sessions, tuning: Provider, monkeypatch: pytest.MonkeyPatch, lists: bool
) -> None:
    if not lists:
        monkeypatch.setattr(tuning, "find_job", lambda *_, **__: None)
    first = attach_or_create(purchase.order, sessions, tuning)
    end(sessions, tuning, first.id)
    second = attach_or_create(purchase.order, sessions, tuning, replace=True)
    end(sessions, tuning, second.id, "cancelled")
    third = attach_or_create(purchase.order, sessions, tuning, replace=True)
    assert len({first.id, second.id, third.id}) == len(set(tuning.keys)) == 3


def test_a_replacement_that_was_not_answered_is_asked_for_by_the_same_key(
    purchase: Purchase, sessions: Sessions, tuning: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = attach_or_create(purchase.order, sessions, tuning)
    end(sessions, tuning, first.id)
    tuning.answers = False
    with pytest.raises(TuningUnavailableError, match="no answer"):
        attach_or_create(purchase.order, sessions, tuning, replace=True)
    tuning.answers = True
    wait_long(sessions, purchase)
    failed = tuning.jobs[first.id]
    late = lambda _, since=None: None if since is None or since > failed.created_at else failed  # noqa: E731
    monkeypatch.setattr(tuning, "find_job", late)
    assert attach_or_create(purchase.order, sessions, tuning).id == "ftjob-2"
    assert (len(tuning.jobs), len(tuning.keys), len(set(tuning.keys))) == (2, 3, 2)


def test_a_released_job_and_one_that_a_new_ledger_does_not_know_have_another_key(
    purchase: Purchase, sessions: Sessions, tuning: Provider
) -> None:
    for _ in range(3):
        job = attach_or_create(purchase.order, sessions, tuning)
        end(sessions, tuning, job.id)
        assert release_jobs(sessions, tuning) == 1  # the ledger keeps no trace
    assert len(set(tuning.keys)) == len(tuning.jobs) == 3


def test_a_job_whose_model_was_lost_with_it_is_replaced_by_another_key(
    purchase: Purchase, sessions: Sessions, tuning: Provider
) -> None:
    first = attach_or_create(purchase.order, sessions, tuning)
    tuning.finish(first.id)
    with sessions.begin() as session:
        row = records.reserve_job(session, purchase.order)
        records.finish_job(row, tuning.jobs[first.id], model_version="1")
    assert release_jobs(sessions, tuning, lambda model: False) == 1
    second = attach_or_create(purchase.order, sessions, tuning, knows_model=lambda model: False)
    assert second.id != first.id
    assert len(set(tuning.keys)) == 2


def test_other_settings_and_other_sets_have_other_keys(purchase: Purchase) -> None:
    order = purchase.order
    keys = {
        each.name_request(before)
        for each in (order, replace(order, n_epochs=9), replace(order, training_set="other"))
        for before in ("", "ftjob-1")
    }
    assert len(keys) == 6


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
    assert release_jobs(sessions, tuning) == 3
    with sessions() as session:
        assert [records.find_job(session, each) for each in orders[:3]] == [None, None, None]
        after = records.find_job(session, orders[3])
    assert before is not None and after is not None
    assert (after.id, after.status, after.finished_at) == (before.id, "running", None)
    assert release_jobs(sessions, tuning) == 0


def test_a_stopped_job_closes_its_run_where_it_has_one(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: NotingTracker
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    stop_job(job.id, sessions, tuning, tracker)  # before a run was opened
    row = read_row(sessions, purchase)
    assert (row.status, row.job_id, row.error, row.finished_at is None) == ("cancelled", job.id, None, False)
    assert tracker.runs == {}
    release_jobs(sessions, tuning)
    stop_job(job.id, sessions, tuning, tracker)  # its row is gone
    assert tracker.runs == {}


def test_a_job_that_ended_well_before_it_was_stopped_keeps_its_run_open(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: NotingTracker
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    stop_job(job.id, sessions, tuning, tracker)
    assert tracker.runs[run_id]["status"] == "RUNNING"
    row = read_row(sessions, purchase)
    assert (row.status, row.finished_at) == ("running", None)


def test_a_failure_of_a_replaced_job_blames_no_other(
    purchase: Purchase, sessions: Sessions, tuning: Provider, tracker: NotingTracker
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    stray = replace(job, id="ftjob-0", status="failed")
    told = record_failure(stray, run_id, sessions, tracker)
    assert told == "Job ftjob-0 came to nothing, and a person has asked for another."
    assert tracker.runs[run_id]["status"] == "FAILED"
    assert read_row(sessions, purchase).status == "running"
