"""The ingest Dags: read without an error, one arm per source, each step in its place."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

import deployments.ingest
from deployments.ingest import arms, composition, news
from deployments.ingest.composition import Ingest
from deployments.ingest.connectors.registry import CONNECTORS
from shared import contracts
from shared.airflow import AirflowApi
from shared.knowledge import find_newest_version
from shared.settings import Settings
from tests.ingest import Deployment


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    bag = DagBag(str(Path(deployments.ingest.__file__).parent / "dags"))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_the_list_of_dags_is_fixed(dags: dict[str, Any]) -> None:
    assert set(dags) == set(contracts.INGEST_DAGS)


def test_each_connector_has_an_arm_in_the_order_of_its_steps(dags: dict[str, Any]) -> None:
    dag = dags[contracts.INGEST_DAG]
    assert set(arms.TITLES) <= set(CONNECTORS)
    for connector in CONNECTORS:
        assert f"{connector}.batches" in dag.get_task("plan").downstream_task_ids
        for step, following in (("batches", "extract"), ("extract", "load")):
            assert f"{connector}.{following}" in dag.get_task(f"{connector}.{step}").downstream_task_ids
        assert "commit" in dag.get_task(f"{connector}.load").downstream_task_ids
    assert dag.get_task("commit").downstream_task_ids == {"publish", "report_problems"}


def test_every_dag_explains_itself_retries_and_pauses_itself(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        assert dag.doc_md and not dag.dag_display_name[0].isascii()
        alone = (
            dag.dag_id != contracts.APPROVE_REMOVALS_DAG
        )  # a question waits for days, and others beside it
        assert dag.max_active_runs == 1 or not alone
        assert dag.max_consecutive_failed_dag_runs > 0
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
    deployment.shelf.put("knowledge://guides/a.md", "# A\n\none")
    deployment.sync()
    run = SimpleNamespace(
        dag_id=contracts.INGEST_DAG,
        logical_date=None,
        run_after=datetime(2026, 11, 24, tzinfo=UTC),
        clear_number=0,
    )
    training = AirflowApi(training_url, "ingest", "another password", wait_seconds=0)

    @contextmanager
    def build_ingest(_: Settings) -> Iterator[Ingest]:
        yield replace(deployment.ingest, training=training)

    monkeypatch.setattr(composition, "build_ingest", build_ingest)
    with pytest.raises(AirflowSkipException):
        news.publish({"dag_run": run})
    assert "refused the password" in caplog.text and "next run publishes it" in caplog.text
    with deployment.sessions() as session:
        version = find_newest_version(session)
        assert version is not None and version.published_at is None  # the next run does it


def make_context(**run: Any) -> dict[str, Any]:
    return {"dag_run": SimpleNamespace(conf={}, run_type="manual", **run)}


def test_a_run_says_who_or_what_asked_for_it() -> None:
    asked = {"dag_run": SimpleNamespace(conf={"asked_by": "admin"}, run_type="manual")}
    assert news.describe_reason(asked) == "asked for by admin"
    assert news.describe_reason(make_context()) == "started by hand"
    events = [SimpleNamespace(extra={"source": name}) for name in ("notes", "guides", "notes")]
    told = {**make_context(), "triggering_asset_events": {"asset": events}}
    assert news.describe_reason(told) == "news of guides, notes"
    told["triggering_asset_events"] = {"asset": [SimpleNamespace(extra=None)]}
    assert news.describe_reason(told) == "news of a source"


@pytest.mark.parametrize("accepted", ["all", {"a": 1}, [1]])
def test_what_is_accepted_is_a_list_of_digests(accepted: object) -> None:
    context = {"dag_run": SimpleNamespace(conf={contracts.ACCEPT_REMOVALS: accepted})}
    with pytest.raises(AirflowFailException, match="list of digests"):
        news.read_accepted(context)
