"""The tracker's contract, on the fake and on MLflow over SQLite."""

import json
from pathlib import Path

import pytest

from deployments.training.results import Point
from deployments.training.tracking.fake import FakeTracker
from deployments.training.tracking.mlflow import MlflowTracker
from deployments.training.tracking.port import Tracker, TrackingError


@pytest.fixture(params=["fake", "mlflow"])
def tracker(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    if request.param == "fake":
        return FakeTracker()
    monkeypatch.chdir(tmp_path)  # MLflow's default place for artifacts
    return MlflowTracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "test")


def test_a_run_is_opened_once_and_keeps_all(tracker: Tracker) -> None:
    run_id = tracker.open_run("first", "key-1", {"a": "b"})
    points = [Point("loss", 1, 2.0), Point("loss", 2, 1.0)]
    for _ in range(2):  # twice, as a retry would
        assert tracker.open_run("first", "key-1", {}) == run_id
        tracker.log_params(run_id, {"epochs": 2})
        tracker.log_points(run_id, points)
        tracker.log_dataset(run_id, "set", "d" * 64, "train.jsonl", {"train": 3})
        tracker.log_file(run_id, "results/results.csv", b"step\n")
        tracker.log_table(run_id, "posts.json", {"topic": ["a", "b"], "score": [0.1, 0.2]})
        tracker.close_run(run_id)
    assert run_id in tracker.describe_run(run_id)
    assert tracker.open_run("second", "key-2", {}) != run_id
    with pytest.raises(TrackingError):
        tracker.log_params(run_id, {"epochs": 3})
    if isinstance(tracker, MlflowTracker):
        run = tracker.client.get_run(run_id)
        assert (run.info.status, run.data.params, run.data.metrics) == (
            "FINISHED",
            {"epochs": "2"},
            {"loss": 1.0},
        )
        assert len(tracker.client.get_metric_history(run_id, "loss")) == 2
        assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["set"]
        names = {entry.path for entry in tracker.client.list_artifacts(run_id)}
        assert names == {"results", "posts.json"}
        table = json.loads(Path(tracker.client.download_artifacts(run_id, "posts.json")).read_text())
        assert table == {"columns": ["topic", "score"], "data": [["a", 0.1], ["b", 0.2]]}
