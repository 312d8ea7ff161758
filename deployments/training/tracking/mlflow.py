"""MLflow behind the tracking port.

It knows nothing of what is trained; the registry has its own adapter in `shared.registry`.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.training.results import Point
from deployments.training.tracking.port import Tracker, TrackingError
from shared.first_use import built_once

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY_TAG = "ghostwriter.key"
_BATCH = 1000  # MLflow's limit of metrics in one request


class MlflowTracker(Tracker):
    """`url` is the tracking server's, or any tracking URI; a request gives up after `timeout` seconds."""

    def __init__(self, url: str, experiment: str, *, timeout: int = 30, max_retries: int = 5) -> None:
        self._url, self._experiment_name = url.rstrip("/"), experiment
        self._timeout, self._max_retries = timeout, max_retries

    @built_once
    def client(self) -> "MlflowClient":
        """The vendor's client; its import takes a second or two, so it waits for the first call."""
        from mlflow import MlflowClient, set_tracking_uri
        from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

        # MLflow takes these from its own variables only; its defaults block a task for many minutes.
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(self._timeout)
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(self._max_retries)
        set_tracking_uri(self._url)  # logging an artifact or a table looks the run up through the global URI
        return MlflowClient(tracking_uri=self._url, registry_uri=self._url)

    @built_once
    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self._experiment_name)
        if found is None:
            try:
                return str(self.client.create_experiment(self._experiment_name))
            except MlflowException:  # another task was faster
                found = self.client.get_experiment_by_name(self._experiment_name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def open_run(self, name: str, key: str, tags: Mapping[str, str]) -> str:
        with self._explained():
            known = self.client.search_runs([self._experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
            if known:
                run_id = str(known[0].info.run_id)
                self.client.update_run(run_id, status="RUNNING")
                return run_id
            run = self.client.create_run(self._experiment, run_name=name, tags={**tags, KEY_TAG: key})
            return str(run.info.run_id)

    def describe_run(self, run_id: str) -> str:
        with self._explained():
            return f"{self._url}/#/experiments/{self._experiment}/runs/{run_id}"

    def log_params(self, run_id: str, params: Mapping[str, str | int | float]) -> None:
        from mlflow.entities import Param

        with self._explained():
            self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        with self._explained():
            # A point logged twice would stand in the history twice.
            known = {
                (name, measured.step)
                for name in {point.metric for point in points}
                for measured in self.client.get_metric_history(run_id, name)
            }
            now = int(time.time() * 1000)
            metrics = [
                Metric(p.metric, p.value, now, p.step) for p in points if (p.metric, p.step) not in known
            ]
            for start in range(0, len(metrics), _BATCH):
                self.client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def log_dataset(
        self, run_id: str, name: str, digest: str, location: str, counts: Mapping[str, Any]
    ) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:36],  # MLflow's limit
            source_type="local",
            source=json.dumps({"uri": location}),
            profile=json.dumps({**counts, "sha256": digest}),
        )
        with self._explained():
            self.client.log_inputs(
                run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
            )

    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        with self._explained(), tempfile.TemporaryDirectory() as directory:
            local = Path(directory) / name
            local.write_bytes(content)
            self.client.log_artifact(run_id, str(local), folder or None)

    def log_table(self, run_id: str, path: str, columns: Mapping[str, Sequence[Any]]) -> None:
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        # MLflow's own table format; its log_table appends on a retry.
        content = json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False).encode()
        self.log_file(run_id, path, content)
        artifacts = json.dumps([{"path": path, "type": "json"}])
        with self._explained():
            self.client.set_tag(run_id, "mlflow.loggedArtifacts", artifacts)

    def close_run(self, run_id: str, *, failed: bool = False) -> None:
        with self._explained():
            self.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            raise TrackingError(
                f"MLflow at {self._url} failed: {str(error)[:300]}. Is it running?"
            ) from error
