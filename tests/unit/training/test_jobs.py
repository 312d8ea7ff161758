"""Jobs: at most one per order, whatever dies in between; everything about it is kept."""

from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from deployments.training import records
from deployments.training.jobs import Purchase, attach_or_create, open_run, record_failure, record_result
from deployments.training.results import Point
from deployments.training.tracking.fake import FakeTracker
from deployments.training.tuning.fake import FakeTuning
from deployments.training.tuning.port import FAILED, TuningUnavailableError
from shared import contracts
from shared.registry.fake import FakeRegistry

Sessions = sessionmaker[Session]


@pytest.fixture
def tuning() -> FakeTuning:
    return FakeTuning()


def test_a_second_try_attaches(purchase: Purchase, sessions: Sessions, tuning: FakeTuning) -> None:
    first = attach_or_create(purchase.order, sessions, tuning)
    assert attach_or_create(purchase.order, sessions, tuning).id == first.id
    assert len(tuning.jobs) == 1
    assert [name for name, _ in tuning.files.values()] == [
        f"{purchase.order.training_set[:16]}-{split}.jsonl" for split in ("train", "validation")
    ]


def test_a_job_whose_id_was_lost_is_found(purchase: Purchase, sessions: Sessions, tuning: FakeTuning) -> None:
    """The worker died between creating the job and writing its id."""
    first = attach_or_create(purchase.order, sessions, tuning)
    with sessions.begin() as session:
        records.reserve_job(session, purchase.order).job_id = None
    assert attach_or_create(purchase.order, sessions, tuning).id == first.id
    assert len(tuning.jobs) == 1


def test_a_provider_that_is_down_leaves_the_reservation_empty(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    tuning.down = True
    with pytest.raises(TuningUnavailableError):
        attach_or_create(purchase.order, sessions, tuning)
    tuning.down = False
    assert attach_or_create(purchase.order, sessions, tuning).status == "running"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_that_came_to_nothing_is_replaced(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, status: str
) -> None:
    first = attach_or_create(purchase.order, sessions, tuning)
    tuning.finish(first.id, status)
    second = attach_or_create(purchase.order, sessions, tuning)
    assert second.id != first.id
    with sessions() as session:
        row = records.find_job(session, purchase.order)
        assert row is not None
        assert (row.job_id, row.status) == (second.id, "running")


def test_everything_about_a_job_is_kept_once(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    tracker, registry = FakeTracker(), FakeRegistry()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "airflow-run")
    tuning.finish(job.id)
    job = tuning.retrieve_job(job.id)
    for _ in range(2):  # the second time stands for a retry after a crash
        assert open_run(purchase, job, sessions, tracker, "airflow-run") == run_id
        version = record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    assert len(registry.list_versions()) == 1
    assert version.model_id == job.fine_tuned_model
    challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    assert challenger is not None
    assert challenger.version == version.version
    run = tracker.runs[run_id]
    assert run["status"] == "FINISHED"
    assert run["datasets"] == {"training_set": purchase.order.training_set}
    assert run["params"]["n_epochs"] == "2"
    assert {Point("train_loss", 2, 1.0), Point("cost", 0, 0.5), Point("trained_tokens", 0, 1000.0)} <= run[
        "points"
    ]
    assert {"results/results.csv", "results/curve.png", "training_set/holdout.jsonl"} <= set(run["files"])
    with sessions() as session:
        row = records.find_job(session, purchase.order)
        assert row is not None
        assert (row.status, row.model_id, row.model_version) == (
            "succeeded",
            version.model_id,
            version.version,
        )
        assert (row.mlflow_run_id, row.trained_tokens, row.seconds) == (run_id, 1000, 60.0)


def test_unreadable_results_do_not_lose_the_model(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    tracker, registry = FakeTracker(), FakeRegistry()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    (results,) = tuning.jobs[job.id].result_files
    tuning.files[results] = ("x", b"<html>")
    record_result(purchase, tuning.jobs[job.id], run_id, sessions, tuning, tracker, registry)
    assert tracker.runs[run_id]["files"]["results/results.bin"] == b"<html>"
    assert len(registry.list_versions()) == 1


def test_the_champion_does_not_become_its_own_challenger(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    tracker, registry = FakeTracker(), FakeRegistry()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    job = tuning.retrieve_job(job.id)
    version = record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    registry.delete_alias(contracts.CHALLENGER_ALIAS)
    registry.set_alias(contracts.CHAMPION_ALIAS, version.version)
    record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    assert registry.get_by_alias(contracts.CHALLENGER_ALIAS) is None


def test_a_failure_is_noted(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tmp_path: Path
) -> None:
    tracker = FakeTracker()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id, FAILED)
    record_failure(purchase.order, tuning.retrieve_job(job.id), run_id, sessions, tracker)
    assert tracker.runs[run_id]["status"] == "FAILED"
    with sessions() as session:
        row = records.find_job(session, purchase.order)
        assert row is not None
        assert row.status == "failed"
