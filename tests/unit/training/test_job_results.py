"""What tracker, registry and ledger keep of a job, to the last value."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.training import jobs, records
from deployments.training.jobs import Purchase, attach_or_create, open_run, record_result
from deployments.training.results import Point
from deployments.training.tuning.fake import RESULTS, FakeTuning
from deployments.training.tuning.port import TuningJob
from shared import contracts
from shared.ledger.models import FineTuningJob
from shared.registry.fake import FakeRegistry
from tests.unit.training.conftest import NotingTracker, Sessions, read_row


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def test_a_run_says_what_was_ordered(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tracker: NotingTracker
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
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tracker: NotingTracker, **changes: Any
) -> tuple[TuningJob, str]:
    job = attach_or_create(purchase.order, sessions, tuning)
    run_id = open_run(purchase, job, sessions, tracker, "")
    tuning.finish(job.id)
    tuning.jobs[job.id] = replace(tuning.jobs[job.id], **changes)
    return tuning.jobs[job.id], run_id


def test_a_result_is_kept_whole(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tracker: NotingTracker, registry: FakeRegistry,
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
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tracker: NotingTracker, registry: FakeRegistry
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
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tracker: NotingTracker, registry: FakeRegistry
) -> None:
    job, run_id = succeed(purchase, sessions, tuning, tracker, result_files=())
    with sessions.begin() as session:
        session.query(FineTuningJob).delete()
    version = record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    row = read_row(sessions, purchase)
    assert (row.status, row.job_id, row.model_version) == ("succeeded", job.id, version.version)


def test_unreadable_results_are_kept_as_they_came(
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tracker: NotingTracker, registry: FakeRegistry
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
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tracker: NotingTracker, registry: FakeRegistry
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
    purchase: Purchase, sessions: Sessions, tuning: FakeTuning, tracker: NotingTracker, registry: FakeRegistry,
    changes: dict[str, Any],
) -> None:  # fmt: skip
    job, run_id = succeed(purchase, sessions, tuning, tracker, **changes)
    with pytest.raises(ValueError) as error:
        record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
    told = f"Job ftjob-1 has {job.status} and names no model: there is nothing to register."
    assert str(error.value) == told
    assert registry.list_versions() == []
