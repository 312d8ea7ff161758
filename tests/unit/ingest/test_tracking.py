"""The figures of a version of the knowledge, kept by MLflow's own server (in process, over SQLite)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from deployments.ingest.quality import Quality
from deployments.ingest.tracking import TrackingError, log_quality
from shared.contracts import KNOWLEDGE_VERSION_TAG, RETRIEVAL_EXPERIMENT

QUALITY = Quality(0.9, 0.8, 0.7, 0.6, 0.5, 10, 5)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    import mlflow.server

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(mlflow.server.BACKEND_STORE_URI_ENV_VAR, database)
        environment.setenv(mlflow.server.ARTIFACT_ROOT_ENV_VAR, str(tmp_path_factory.mktemp("artifacts")))
        transport = httpx.WSGITransport(app=mlflow.server.app)
        with httpx.Client(transport=transport, base_url="http://127.0.0.1:5001") as client:
            yield client


def read_runs(database: str) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(database)
    experiment = client.get_experiment_by_name(RETRIEVAL_EXPERIMENT)
    assert experiment is not None
    return {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}


def test_each_version_has_one_run_however_often_it_is_logged(server: httpx.Client, database: str) -> None:
    first = log_quality(server, 3, QUALITY, {"embedding_model": "mini"})
    assert log_quality(server, 3, replace(QUALITY, ndcg=0.95), {"embedding_model": "bge"}) == first
    second = log_quality(server, 4, QUALITY, {})
    runs = read_runs(database)
    assert set(runs) == {first, second}
    run = runs[first]
    assert (run.info.run_name, run.info.status) == ("knowledge 3", "FINISHED")
    assert run.data.metrics["ndcg"] == 0.95
    assert run.data.metrics["refusal_precision"] == 0.5 and run.data.metrics["unanswerable"] == 5
    assert run.data.tags[KNOWLEDGE_VERSION_TAG] == "3"
    assert run.data.tags["ghostwriter.embedding_model"] == "bge"


def test_a_server_that_refuses_or_is_away_is_an_error_in_words() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, text="the database is starting up")

    with (
        httpx.Client(transport=httpx.MockTransport(refuse), base_url="http://mlflow") as client,
        pytest.raises(TrackingError, match=r"answered 503 .*starting up"),
    ):
        log_quality(client, 1, QUALITY, {})
    with (
        httpx.Client(base_url="http://127.0.0.1:9", timeout=5, trust_env=False) as client,
        pytest.raises(TrackingError, match="can't be reached"),
    ):
        log_quality(client, 1, QUALITY, {})
