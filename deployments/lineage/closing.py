"""Ends for runs that nobody ended: a killed task sends no event, but its next try or its Dag's end tells of it.

It knows no database: events in, events out.
"""

from collections.abc import Iterable
from typing import Any, Final

from deployments.lineage.cleaning import TERMINAL, Event

_ENDS: Final = {"success": "COMPLETE", "skipped": "COMPLETE", "failed": "FAIL", "upstream_failed": "FAIL"}


def task_states(event: Event) -> dict[str, str]:
    """Task id to state, where this is the end of a Dag run; else empty."""
    if event.get("eventType") not in TERMINAL:
        return {}
    state = (event["run"].get("facets") or {}).get("airflowState") or {}
    return state.get("tasksState") or {}


def tells_of_ends(event: Event) -> bool:
    """Whether runs may be over because of this event: the end of a Dag run, or a later try of a task."""
    later_try = event.get("eventType") == "START" and _task_instance(event)[1] > 1
    return later_try or bool(task_states(event))


def get_dag_run(cause: Event) -> tuple[str | None, str]:
    """Run id and name of the Dag whose end this is, or of whose task."""
    if task_states(cause):
        return cause["run"]["runId"], cause["job"]["name"]
    return _parent_run(cause), cause["job"]["name"].partition(".")[0]


def close_runs(cause: Event, events: Iterable[Event]) -> list[Event]:
    """Terminal events for the task runs that have none and are over, as `cause` tells; `events` are those of the tasks.

    A try that another has followed was killed, whatever became of the task, and ended before that one began.
    """
    states = task_states(cause)
    dag_run, dag = get_dag_run(cause)
    by_run: dict[str, list[Event]] = {}
    for event in events:
        if _parent_run(event) == dag_run:
            by_run.setdefault(event["run"]["runId"], []).append(event)
    tries = {run_id: _task_instance(of_run[0]) for run_id, of_run in by_run.items()}
    ends = []
    for run_id, of_run in by_run.items():
        if any(event["eventType"] in TERMINAL for event in of_run):
            continue
        key, number = tries[run_id]
        followed = [other for other, (task, later) in tries.items() if task == key and later > number]
        if followed:
            began = min(event["eventTime"] for other in followed for event in by_run[other])
            ends.append(_end(of_run, "FAIL", began, "killed: a later try of the task has begun", run_id))
        elif states:
            state = states.get(key[0].removeprefix(f"{dag}."))
            kind, reason = (
                _ENDS.get(str(state), "ABORT"),
                f"task {state or 'unknown'} when its Dag run ended",
            )
            ends.append(_end(of_run, kind, cause["eventTime"], reason, run_id))
    return ends


def keep_datasets(event: Event, earlier: Iterable[Event]) -> Event:
    """A task marked by hand ends with a bare event, which would erase its edges: give it those of its START."""
    if event["eventType"] not in TERMINAL or event["inputs"] or event["outputs"]:
        return event
    for other in earlier:
        if other["inputs"] or other["outputs"]:
            return {**event, "inputs": other["inputs"], "outputs": other["outputs"]}
    return event


def _end(events: list[Event], kind: str, when: str, reason: str, run_id: str) -> Event:
    start = next((event for event in events if event["inputs"] or event["outputs"]), events[0])
    facets: dict[str, Any] = {
        name: facet
        for name, facet in start["run"]["facets"].items()
        if name in {"airflow", "parent", "nominalTime"}
    }
    facets["ghostwriter"] = {
        "_producer": start["producer"],
        "_schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet",
        "details": {"closed_by": "lineage relay", "reason": reason},
    }
    return {
        **start,
        "eventType": kind,
        "eventTime": max(when, start["eventTime"]),
        "run": {"runId": run_id, "facets": facets},
    }


def _parent_run(event: Event) -> str | None:
    parent = (event["run"].get("facets") or {}).get("parent") or {}
    return (parent.get("run") or {}).get("runId")


def _task_instance(event: Event) -> tuple[tuple[str, int], int]:
    """Job name and map index, and the number of the try."""
    instance = ((event["run"].get("facets") or {}).get("airflow") or {}).get("taskInstance") or {}
    return (event["job"]["name"], instance.get("map_index", -1)), instance.get("try_number") or 1
