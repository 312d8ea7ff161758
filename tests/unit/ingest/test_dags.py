"""The ingest Dags: read without an error, one arm per source, each step in its place."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowSkipException

import deployments.ingest
from deployments.ingest import arms, composition, ledger
from shared import contracts
from shared.ledger.sessions import create_sessions
from tests.unit.ingest.conftest import Deployment


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    bag = DagBag(str(Path(deployments.ingest.__file__).parent / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_the_list_of_dags_is_fixed(dags: dict[str, Any]) -> None:
    assert set(dags) == set(contracts.INGEST_DAGS)


def test_each_source_has_an_arm_in_the_order_of_its_steps(dags: dict[str, Any]) -> None:
    dag = dags[contracts.INGEST_DAG]
    for source in ("guides", "notes"):
        for step, following in (("extract", "split"), ("split", "prepare"), ("prepare", "ingest")):
            assert f"{source}.{following}" in dag.get_task(f"{source}.{step}").downstream_task_ids
        assert "commit" in dag.get_task(f"{source}.ingest").downstream_task_ids
    assert dag.get_task("commit").downstream_task_ids == {"publish"}


def test_every_dag_explains_itself_retries_and_pauses_itself(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        assert dag.doc_md and not dag.dag_display_name[0].isascii()
        assert dag.max_active_runs == 1 and dag.max_consecutive_failed_dag_runs > 0
        assert all(task.retries >= 1 and task.retry_exponential_backoff for task in dag.tasks)


def test_a_manual_dag_is_paused_wherever_it_runs(dags: dict[str, Any]) -> None:
    """In containers new Dags are at work at once."""
    paused = {dag_id for dag_id, dag in dags.items() if dag.is_paused_upon_creation}
    assert paused == contracts.MANUAL_DAGS


class Refusal(BaseHTTPRequestHandler):
    """A training deployment that has another password."""

    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def training_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_a_run_whose_knowledge_stands_does_not_fail_because_it_cannot_be_published(
    deployment: Deployment,
    training_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    deployment.run()
    run = SimpleNamespace(
        dag_id=contracts.INGEST_DAG,
        logical_date=None,
        run_after=datetime(2026, 11, 24, tzinfo=UTC),
        clear_number=0,
    )
    settings = deployment.settings.model_copy(update={"training_url": training_url})
    monkeypatch.setattr(arms, "get_settings", lambda: settings)
    with pytest.raises(AirflowSkipException):
        arms.publish({"dag_run": run})
    assert "refused the password" in caplog.text and "next run publishes it" in caplog.text
    with deployment.sessions() as session:
        version = ledger.read_newest_version(session)
        assert version is not None and version.published_at is None  # the next run does it
    monkeypatch.setattr(composition, "create_ledger", lambda _: create_sessions("sqlite://"))  # has no tables
    with pytest.raises(AirflowSkipException):
        arms.publish({"dag_run": run})
