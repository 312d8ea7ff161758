"""Ends for runs that nobody ended: a killed task sends no event, but its Dag's end says what became of it.

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


def close_runs(dag_end: Event, events: Iterable[Event]) -> list[Event]:
    """Terminal events for the runs of this Dag run that have none; `events` are those of its task runs."""
    states = task_states(dag_end)
    by_run: dict[str, list[Event]] = {}
    for event in events:
        if _parent_run(event) == dag_end["run"]["runId"]:
            by_run.setdefault(event["run"]["runId"], []).append(event)
    last_try: dict[tuple[str, int], int] = {}
    for event, *_ in by_run.values():
        key, number = _task_instance(event)
        last_try[key] = max(last_try.get(key, 0), number)
    ends = []
    for run_id, of_run in by_run.items():
        if any(event["eventType"] in TERMINAL for event in of_run):
            continue
        key, number = _task_instance(of_run[0])
        state = states.get(key[0].removeprefix(f"{dag_end['job']['name']}."))
        # An earlier try that has no end was killed, whatever became of the task.
        kind = "FAIL" if number < last_try[key] else _ENDS.get(state or "", "ABORT")
        ends.append(
            _end(of_run, kind, dag_end, f"task {state or 'unknown'} at the end of its Dag run", run_id)
        )
    return ends


def keep_datasets(event: Event, earlier: Iterable[Event]) -> Event:
    """A task marked by hand ends with a bare event, which would erase its edges: give it those of its START."""
    if event["eventType"] not in TERMINAL or event["inputs"] or event["outputs"]:
        return event
    for other in earlier:
        if other["inputs"] or other["outputs"]:
            return {**event, "inputs": other["inputs"], "outputs": other["outputs"]}
    return event


def _end(events: list[Event], kind: str, dag_end: Event, reason: str, run_id: str) -> Event:
    start = next((event for event in events if event["inputs"] or event["outputs"]), events[0])
    facets: dict[str, Any] = {
        name: facet
        for name, facet in start["run"]["facets"].items()
        if name in {"airflow", "parent", "nominalTime"}
    }
    facets["ghostwriter"] = {
        "_producer": dag_end["producer"],
        "_schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet",
        "details": {"closed_by": "lineage relay", "reason": reason},
    }
    return {
        **start,
        "eventType": kind,
        "eventTime": max(dag_end["eventTime"], start["eventTime"]),
        "run": {"runId": run_id, "facets": facets},
    }


def _parent_run(event: Event) -> str | None:
    parent = (event["run"].get("facets") or {}).get("parent") or {}
    return (parent.get("run") or {}).get("runId")


def _task_instance(event: Event) -> tuple[tuple[str, int], int]:
    """Job name and map index, and the number of the try."""
    instance = ((event["run"].get("facets") or {}).get("airflow") or {}).get("taskInstance") or {}
    return (event["job"]["name"], instance.get("map_index", -1)), instance.get("try_number", 1)
