"""Ends for runs that nobody ended."""

from typing import Any
from uuid import UUID

import pytest

from deployments.lineage.cleaning import clean_event
from deployments.lineage.closing import close_runs, keep_datasets, task_states, tells_of_ends
from shared import contracts
from shared.lineage import EventType, build_event

DAG_RUN = str(UUID(int=99))


def task_event(
    kind: EventType,
    run: int,
    task: str = "write",
    try_number: int = 1,
    map_index: int = -1,
    parent: str = DAG_RUN,
) -> dict[str, Any]:
    facets = {
        "parent": {"run": {"runId": parent}, "job": {"namespace": "ns", "name": "ingest"}},
        "airflow": {"taskInstance": {"try_number": try_number, "map_index": map_index}},
    }
    return build_event(
        kind,
        str(UUID(int=run)),
        "ns",
        f"ingest.{task}",
        [contracts.DOCUMENTS],
        [contracts.CHUNKS],
        run_facets=facets,
    )


def dag_end(**states: str) -> dict[str, Any]:
    return build_event(
        "COMPLETE", DAG_RUN, "ns", "ingest", run_facets={"airflowState": {"tasksState": states}}
    )


@pytest.mark.parametrize(
    ("state", "kind"),
    [("failed", "FAIL"), ("success", "COMPLETE"), ("skipped", "COMPLETE"), ("removed", "ABORT")],
)
def test_a_killed_task_is_closed_as_its_dag_says(state: str, kind: str) -> None:
    (end,) = close_runs(dag_end(write=state), [task_event("START", 1)])
    assert end["eventType"] == kind
    assert (end["run"]["runId"], end["job"]["name"]) == (str(UUID(int=1)), "ingest.write")
    assert [item["name"] for item in end["outputs"]] == ["Chunk"]
    assert clean_event(end).event_type == kind  # valid, and made the same way each time
    assert close_runs(dag_end(write=state), [task_event("START", 1)])[0]["eventType"] == kind


def test_ended_runs_and_those_of_other_dag_runs_are_left_alone() -> None:
    events = [
        task_event("START", 1),
        task_event("COMPLETE", 1),
        task_event("START", 2, parent=str(UUID(int=98))),
    ]
    assert close_runs(dag_end(write="success"), events) == []


def test_an_earlier_try_that_was_killed_failed_though_the_task_succeeded() -> None:
    events = [
        task_event("START", 1),
        task_event("START", 2, try_number=2),
        task_event("COMPLETE", 2, try_number=2),
    ]
    (end,) = close_runs(dag_end(write="success"), events)
    assert (end["run"]["runId"], end["eventType"]) == (str(UUID(int=1)), "FAIL")
    # It was over when the next try began: later it would pass for the task's last run.
    assert end["eventTime"] == events[1]["eventTime"]
    assert end == close_runs(events[1], events)[0], "the next try tells as much as the Dag's end"


def test_a_later_try_ends_no_other_task() -> None:
    events = [task_event("START", 1), task_event("START", 2, "read"), task_event("START", 3, try_number=2)]
    assert [end["run"]["runId"] for end in close_runs(events[2], events)] == [str(UUID(int=1))]
    assert [tells_of_ends(event) for event in events] == [False, False, True]


def test_mapped_instances_are_no_tries_of_each_other() -> None:
    events = [task_event("START", 1, map_index=0), task_event("START", 2, map_index=1, try_number=2)]
    assert {end["eventType"] for end in close_runs(dag_end(write="success"), events)} == {"COMPLETE"}


def test_only_ends_tell_states() -> None:
    assert task_states(dag_end(write="failed")) == {"write": "failed"}
    assert task_states({**dag_end(write="failed"), "eventType": "START"}) == {}


def test_a_bare_end_takes_its_datasets_from_the_start() -> None:
    bare = {**task_event("COMPLETE", 1), "inputs": [], "outputs": []}
    start = task_event("START", 1)
    assert keep_datasets(bare, [start])["outputs"] == start["outputs"]
    assert keep_datasets(start, [bare]) == start
    assert keep_datasets(bare, []) == bare
