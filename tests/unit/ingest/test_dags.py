"""The ingest Dags: read without an error, one arm per source, each step in its place."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.dag_processing.dagbag import DagBag

import deployments.ingest
from shared import contracts


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
