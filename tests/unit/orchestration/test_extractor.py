"""The datasets of our tasks' lineage events, as Airflow asks the extractor for them."""

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.sdk import Asset
from airflow.sdk.execution_time.context import set_current_context
from airflow.utils.state import TaskInstanceState
from openlineage.client.serde import Serde

from shared import contracts
from shared.orchestration.datasets import dataset_asset
from shared.orchestration.extractor import TaskExtractor, find_datasets
from shared.orchestration.recording import record_lineage

OPERATOR = SimpleNamespace(
    task_type="_PythonDecoratedOperator",
    dag_id="d",
    task_id="t",
    inlets=[dataset_asset(contracts.DOCUMENTS), Asset("file:///elsewhere")],
    outlets=[Asset(contracts.CHALLENGER_ASSET), Asset(contracts.CHAMPION_ASSET)],
)
DAG_RUN = SimpleNamespace(run_id="r")


def task_instance(try_number: int = 1, map_index: int = -1) -> Any:
    return SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=map_index, try_number=try_number)


def extract(state: TaskInstanceState, instance: Any) -> dict[str, Any]:
    """As the provider's listener does it."""
    manager = ExtractorManager()
    for name in TaskExtractor.get_operator_classnames():
        manager.add_extractor(name, TaskExtractor)
    return Serde.to_dict(manager.extract_metadata(DAG_RUN, OPERATOR, state, instance))


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


@pytest.mark.parametrize(
    "state", [TaskInstanceState.RUNNING, TaskInstanceState.SUCCESS, TaskInstanceState.FAILED]
)
def test_every_event_names_the_static_datasets_once(state: TaskInstanceState) -> None:
    lineage = extract(state, task_instance())
    assert names(lineage["inputs"]) == [contracts.DOCUMENTS]
    assert names(lineage["outputs"]) == [contracts.MODEL]


@pytest.mark.parametrize("state", [TaskInstanceState.SUCCESS, TaskInstanceState.FAILED])
def test_the_end_carries_what_the_task_recorded(state: TaskInstanceState) -> None:
    with set_current_context({"ti": task_instance()}):  # type: ignore[typeddict-item]
        record_lineage(outputs={contracts.MODEL: {"version": 3}}, run={"changed": 2})
        record_lineage(
            inputs={contracts.DOCUMENTS: {"row_count": 2, "uris": ["knowledge://guides/a.md"]}},
            outputs={contracts.MODEL: {"size": 9}, contracts.CHUNKS: {}},
        )
    lineage = extract(state, task_instance())
    (documents,) = lineage["inputs"]
    model, chunks = lineage["outputs"]
    assert documents["inputFacets"]["inputStatistics"]["rowCount"] == 2
    assert documents["facets"]["ghostwriter"]["details"] == {"uris": ["knowledge://guides/a.md"]}
    assert model["facets"]["version"]["datasetVersion"] == "3"
    assert model["outputFacets"]["outputStatistics"]["size"] == 9
    assert names([chunks]) == [contracts.CHUNKS]  # recorded, though no outlet
    assert lineage["run_facets"]["ghostwriter"]["details"] == {"changed": 2}


def test_a_try_does_not_speak_for_another() -> None:
    with set_current_context({"ti": task_instance(try_number=1, map_index=0)}):  # type: ignore[typeddict-item]
        record_lineage(outputs={contracts.MODEL: {"version": "1"}})
    for other in (task_instance(try_number=2, map_index=0), task_instance(map_index=1)):
        assert "version" not in extract(TaskInstanceState.SUCCESS, other)["outputs"][0].get("facets", {})


def test_assets_that_stand_for_no_dataset_are_left_out() -> None:
    assert find_datasets(["s3://bucket/key", dataset_asset(contracts.POSTS), object()]) == [contracts.POSTS]
