"""Jobs: at most one per order, whatever dies in between; everything about it is kept."""

from dataclasses import replace
from pathlib import Path

import pytest

from deployments.training import records
from deployments.training.jobs import (
    ANSWER_WITHIN,
    JobEndedError,
    Purchase,
    attach_or_create,
    open_run,
    record_failure,
    record_result,
    release_jobs,
    stop_job,
)
from deployments.training.proposals import Order
from deployments.training.results import Point
from deployments.training.tracking.fake import FakeTracker
from deployments.training.tuning.fake import FakeTuning
from deployments.training.tuning.port import FAILED, TuningError, TuningJob, TuningUnavailableError
from shared import contracts
from shared.ledger.models import utc_now
from shared.registry.fake import FakeRegistry
from tests.unit.training.conftest import Sessions


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
def test_a_job_that_came_to_nothing_is_replaced_when_a_person_wants_it(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, status: str
) -> None:
    first = attach_or_create(purchase.order, sessions, tuning)
    tuning.finish(first.id, status)
    assert attach_or_create(purchase.order, sessions, tuning, replace=True).id == first.id  # not recorded yet
    tracker = FakeTracker()
    run_id = open_run(purchase, first, sessions, tracker, "")
    record_failure(tuning.retrieve_job(first.id), run_id, sessions, tracker)
    with pytest.raises(JobEndedError, match=f"Job {first.id} has .*`ghostwriter train start`"):
        attach_or_create(purchase.order, sessions, tuning)
    second = attach_or_create(purchase.order, sessions, tuning, replace=True)
    assert second.id != first.id
    with sessions() as session:
        row = records.find_job(session, purchase.order)
        assert row is not None
        assert (row.job_id, row.status, row.error) == (second.id, "running", None)


class Unanswered(FakeTuning):
    """A provider whose answer to "create a job" is lost; it may list the job late, too."""

    def __init__(self, *, begins: bool) -> None:
        super().__init__()
        self.begins, self.late, self.asked = begins, True, 0

    def create_job(self, order: Order, training_file: str, validation_file: str, key: str) -> TuningJob:
        self.asked += 1
        if self.begins:
            super().create_job(order, training_file, validation_file, key)
        raise TuningUnavailableError("no answer")

    def find_job(self, order: Order, *, since: float | None = None) -> TuningJob | None:
        return None if self.late else super().find_job(order, since=since)


def test_a_job_that_is_listed_late_is_not_bought_twice(purchase: Purchase, sessions: Sessions) -> None:
    tuning = Unanswered(begins=True)
    for _ in range(7):
        with pytest.raises(TuningUnavailableError):
            attach_or_create(purchase.order, sessions, tuning)
    assert tuning.asked == 1
    tuning.late = False
    assert attach_or_create(purchase.order, sessions, tuning).id == "ftjob-1"
    assert tuning.asked == 1


def test_a_job_that_failed_before_its_answer_came_is_not_bought_again(
    purchase: Purchase, sessions: Sessions
) -> None:
    tuning = Unanswered(begins=True)
    with pytest.raises(TuningUnavailableError):
        attach_or_create(purchase.order, sessions, tuning)
    tuning.late = False
    made = utc_now().timestamp()
    tuning.jobs["ftjob-1"] = replace(tuning.jobs["ftjob-1"], created_at=int(made))
    tuning.finish("ftjob-1", FAILED)
    with sessions.begin() as session:
        records.reserve_job(session, purchase.order).asked_at = utc_now() - ANSWER_WITHIN
    job = attach_or_create(purchase.order, sessions, tuning)
    assert (job.id, job.status, tuning.asked) == ("ftjob-1", FAILED, 1)


def test_a_job_that_never_began_is_asked_for_again_in_the_end(purchase: Purchase, sessions: Sessions) -> None:
    tuning = Unanswered(begins=False)
    with pytest.raises(TuningUnavailableError):
        attach_or_create(purchase.order, sessions, tuning)
    with sessions.begin() as session:
        records.reserve_job(session, purchase.order).asked_at = utc_now() - ANSWER_WITHIN
    assert attach_or_create(purchase.order, sessions, FakeTuning()).status == "running"


def test_a_refusal_is_an_answer(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "upload_file", lambda path, name: "file-of-nobody")
    with pytest.raises(TuningError):
        attach_or_create(purchase.order, sessions, tuning)
    monkeypatch.undo()
    assert attach_or_create(purchase.order, sessions, tuning).status == "running"


def test_the_job_of_another_is_not_taken_for_ours(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    honest = tuning.jobs[job.id]
    for lie in (
        replace(honest, id="ftjob-other"),
        replace(honest, metadata={"ghostwriter_training_set": "x"}),
    ):
        tuning.jobs[job.id] = lie
        with pytest.raises(TuningError):
            attach_or_create(purchase.order, sessions, tuning)
    tuning.jobs[job.id] = replace(honest, metadata={})  # a provider that keeps none
    assert attach_or_create(purchase.order, sessions, tuning).id == job.id
    assert len(tuning.jobs) == 1


def test_a_success_is_final_only_with_its_model(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    """The tracker is down when the job has ended: the next run must take it up again."""
    job = attach_or_create(purchase.order, sessions, tuning)
    tuning.finish(job.id)
    assert attach_or_create(purchase.order, sessions, tuning).finished
    with sessions() as session:
        row = records.find_job(session, purchase.order)
        assert row is not None
        assert (row.status, row.model_version, records.is_settled(row)) == ("running", None, False)


def test_a_failure_that_a_person_has_released_is_not_recorded_again(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    """`train start` saw the failure before the task that waited did."""
    tracker = FakeTracker()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id, FAILED)
    assert release_jobs(sessions, tuning) == 1
    open_run(purchase, job, sessions, tracker, "")
    record_failure(tuning.retrieve_job(job.id), run_id, sessions, tracker)
    assert attach_or_create(purchase.order, sessions, tuning).id != job.id


def test_stopping_a_job_is_recorded(purchase: Purchase, sessions: Sessions, tuning: FakeTuning) -> None:
    tracker = FakeTracker()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    for _ in range(2):
        stop_job(job.id, sessions, tuning, tracker)
    assert tuning.jobs[job.id].status == "cancelled"
    assert tracker.runs[run_id]["status"] == "FAILED"
    with pytest.raises(JobEndedError, match="has been cancelled"):
        attach_or_create(purchase.order, sessions, tuning)


def test_a_job_that_was_faster_than_its_cancellation_is_kept(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    job = attach_or_create(purchase.order, sessions, tuning)
    tuning.finish(job.id)
    stop_job(job.id, sessions, tuning, FakeTracker())
    assert attach_or_create(purchase.order, sessions, tuning).fine_tuned_model == f"ft:base:{job.id}"


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


def test_a_version_that_had_its_turn_is_no_challenger_again(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    """It was crowned, a person went back to the champion before it, and then cleared the old task."""
    tracker, registry = FakeTracker(), FakeRegistry()
    earlier = registry.register(model_id="ft:0", run_id="r", training_set="s", job_id="ftjob-0")
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    job = tuning.retrieve_job(job.id)
    record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    registry.delete_alias(contracts.CHALLENGER_ALIAS)
    registry.set_alias(contracts.CHAMPION_ALIAS, earlier.version)
    record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    assert registry.get_by_alias(contracts.CHALLENGER_ALIAS) is None


def test_a_version_does_not_take_the_place_of_a_newer_challenger(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    """Its task died before the ledger knew of the version, and is taken up when another has been trained."""
    tracker, registry = FakeTracker(), FakeRegistry()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    job = tuning.retrieve_job(job.id)
    model_id, training_set = job.fine_tuned_model or "", purchase.order.training_set
    registry.register(model_id=model_id, run_id=run_id, training_set=training_set, job_id=job.id)
    newer = registry.register(model_id="ft:9", run_id="r", training_set="s", job_id="ftjob-9")
    registry.set_alias(contracts.CHALLENGER_ALIAS, newer.version)
    record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    assert challenger is not None
    assert challenger.version == newer.version
    with sessions() as session:
        assert records.is_settled(records.find_job(session, purchase.order))


def test_a_version_registered_anew_is_a_challenger(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning
) -> None:
    """The registry has lost what it had; clearing the task brings the model back under the same number."""
    tracker = FakeTracker()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    job = tuning.retrieve_job(job.id)
    for registry in (FakeRegistry(), FakeRegistry()):
        version = record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
        challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
        assert challenger is not None
        assert challenger.version == version.version == "1"


def test_a_failure_is_noted(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tmp_path: Path
) -> None:
    tracker = FakeTracker()
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id, FAILED)
    record_failure(tuning.retrieve_job(job.id), run_id, sessions, tracker)
    assert tracker.runs[run_id]["status"] == "FAILED"
    with sessions() as session:
        row = records.find_job(session, purchase.order)
        assert row is not None
        assert row.status == "failed"
