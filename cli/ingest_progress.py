"""How far an ingest run is: documents written and to do, as its tasks' answers tell.

It knows no HTTP and no screen.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from cli.connection import Airflow
from shared import contracts


class IngestProgress:
    """Follows one run; what can't change any more is asked once."""

    def __init__(self, ingest: Airflow, run_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ingest, self._run_id, self._clock = ingest, run_id, clock
        self._batches: dict[str, list[dict[str, Any]]] = {}  # by connector
        self._began: tuple[float, int] | None = (
            None  # when the first documents were seen written, and how many
        )

    def describe(self) -> str:
        """`40 of 992 documents written (120 read), 80 s left`."""
        tasks = list(self._ingest.list_task_instances(contracts.INGEST_DAG, self._run_id))
        over = [task for task in tasks if task["state"] == "success"]
        names = {task["task_id"] for task in over}
        if "plan" not in names:
            return "listing the sources"
        arms = [task["task_id"] for task in tasks if task["task_id"].endswith(".batches")]
        for name in arms:
            connector = name.removesuffix(".batches")
            if name in names and connector not in self._batches:
                self._batches[connector] = self._ingest.read_xcom(contracts.INGEST_DAG, self._run_id, name)
        to_do = sum(batch["documents"] for batches in self._batches.values() for batch in batches)
        if not to_do:
            return "making batches" if any(self._is_due(task) for task in tasks) else "no document to read"
        read, written = (self._count(over, step) for step in ("extract", "load"))
        return f"{written} of {to_do} documents written ({read} read){self._estimate(written, to_do)}"

    @staticmethod
    def _is_due(task: Mapping[str, Any]) -> bool:
        return task["task_id"].endswith(".batches") and task["state"] not in ("success", "skipped", "failed")

    def _count(self, over: list[Mapping[str, Any]], step: str) -> int:
        count = 0
        for task in over:
            connector, _, name = task["task_id"].rpartition(".")
            batches = self._batches.get(connector, [])
            if name == step and 0 <= task["map_index"] < len(batches):
                count += batches[task["map_index"]]["documents"]
        return count

    def _estimate(self, written: int, to_do: int) -> str:
        """What is left, at the pace since the first documents were written; empty while that says nothing."""
        if not written:
            return ""
        if self._began is None:
            self._began = (self._clock(), written)
        began, first = self._began
        if written in (first, to_do):
            return ""
        return f", {(self._clock() - began) / (written - first) * (to_do - written):.0f} s left"
