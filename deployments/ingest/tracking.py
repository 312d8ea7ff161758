"""Keeps the quality of each version of the knowledge in MLflow, over its REST interface.

It knows no measure. Ingest has no client of MLflow installed: the four requests are not worth its packages.
"""

import time
from collections.abc import Mapping
from typing import Any

import httpx

from deployments.ingest.quality import Quality
from shared.contracts import KNOWLEDGE_VERSION_TAG, RETRIEVAL_EXPERIMENT


class TrackingError(RuntimeError):
    """MLflow refused or can't be reached; the message says which."""


def log_quality(client: httpx.Client, version: int, quality: Quality, parameters: Mapping[str, str]) -> str:
    """One run a version of the knowledge, its id; logged again, the figures of the same run. Raises TrackingError.

    `client` has MLflow's address as its base URL, and a time limit.
    """
    experiment = _find_experiment(client)
    now = int(time.time() * 1000)
    tag = {"key": KNOWLEDGE_VERSION_TAG, "value": str(version)}
    search = {
        "experiment_ids": [experiment],
        "filter": f"tags.`{KNOWLEDGE_VERSION_TAG}` = '{version}'",
        "max_results": 1,
    }
    found = _call(client, "POST", "runs/search", search).get("runs")
    if found:
        run = str(found[0]["info"]["run_id"])
    else:
        name = f"knowledge {version}"
        made = _call(
            client, "POST", "runs/create",
            {"experiment_id": experiment, "run_name": name, "start_time": now, "tags": [tag]},
        )  # fmt: skip
        run = str(made["run"]["info"]["run_id"])
    counts = {"answerable": quality.answerable, "unanswerable": quality.unanswerable}
    metrics = [
        {"key": key, "value": float(value), "timestamp": now, "step": 0}
        for key, value in (quality.describe() | counts).items()
    ]
    # A parameter can't be changed once it is logged; a tag can.
    tags = [{"key": f"ghostwriter.{key}", "value": value} for key, value in parameters.items()]
    _call(client, "POST", "runs/log-batch", {"run_id": run, "metrics": metrics, "tags": tags})
    _call(client, "POST", "runs/update", {"run_id": run, "status": "FINISHED", "end_time": now})
    return run


def _find_experiment(client: httpx.Client) -> str:
    for attempt in range(2):
        found = _call(
            client,
            "GET",
            "experiments/get-by-name",
            {"experiment_name": RETRIEVAL_EXPERIMENT},
            missing_ok=True,
        )
        if found:
            return str(found["experiment"]["experiment_id"])
        if not attempt:  # where another task is faster, this is refused, and it is there
            _call(client, "POST", "experiments/create", {"name": RETRIEVAL_EXPERIMENT}, missing_ok=True)
    raise TrackingError(f"MLflow makes no experiment {RETRIEVAL_EXPERIMENT!r}.")


def _call(
    client: httpx.Client, method: str, path: str, body: Mapping[str, Any], *, missing_ok: bool = False
) -> dict[str, Any]:
    try:
        answer = client.request(
            method,
            f"/api/2.0/mlflow/{path}",
            params=body if method == "GET" else None,
            json=None if method == "GET" else body,
        )
    except httpx.HTTPError as error:
        raise TrackingError(f"MLflow can't be reached: {type(error).__name__}") from error
    if missing_ok and answer.status_code in (400, 404):
        return {}
    if not answer.is_success:
        raise TrackingError(f"MLflow answered {answer.status_code} to {path}: {answer.text[:200]}")
    return dict(answer.json())
