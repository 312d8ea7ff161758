"""What a running task says about the data it read and wrote, kept until its lineage event is built.

It knows no OpenLineage: the extractor reads it in the same process when the task ends. What a deferred task
recorded before it deferred is gone: record in the method that runs last.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow.sdk import get_current_context

from shared.contracts import LineageDataset

Details = dict[str, Any]
TaskKey = tuple[str, str, str, int, int]


@dataclass
class Record:
    """By dataset: `version`, `row_count`, `size` (bytes) and any JSON details; `run` says the same of the run."""

    inputs: dict[LineageDataset, Details] = field(default_factory=dict)
    outputs: dict[LineageDataset, Details] = field(default_factory=dict)
    run: Details = field(default_factory=dict)


# One process runs one task instance, except under `dag.test()`: hence the key.
_RECORDS: Final[dict[TaskKey, Record]] = {}


def record_lineage(
    *,
    inputs: Mapping[LineageDataset, Mapping[str, Any]] | None = None,
    outputs: Mapping[LineageDataset, Mapping[str, Any]] | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Call in a running task, as often as you like: later values of the same name win.

    Example: `record_lineage(outputs={CHUNKS: {"version": digest, "row_count": 812}}, run={"changed": 3})`.
    Ids, versions and counts only: lineage events leave the deployment.
    """
    record = _RECORDS.setdefault(task_key(get_current_context()["ti"]), Record())
    for recorded, given in ((record.inputs, inputs), (record.outputs, outputs)):
        for dataset, details in (given or {}).items():
            recorded.setdefault(dataset, {}).update(details)
    record.run.update(run or {})


def take_record(task_instance: Any) -> Record:
    """What this try of the task recorded; it is forgotten."""
    return _RECORDS.pop(task_key(task_instance), Record())


def task_key(task_instance: Any) -> TaskKey:
    """One try of one task instance."""
    return (
        task_instance.dag_id,
        task_instance.run_id,
        task_instance.task_id,
        task_instance.map_index,
        task_instance.try_number,
    )
