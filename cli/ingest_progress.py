"""How far an ingest run is: documents written and to do, as its tasks' answers tell.

It knows no HTTP and no screen.
"""

from collections import Counter
from typing import Any

from cli.connection import Airflow
from shared import contracts

STEPS = {"split": "split", "prepare": "embedded", "ingest": "written"}


class IngestProgress:
    """Follows one run; what can't change any more is asked once."""

    def __init__(self, ingest: Airflow, run_id: str) -> None:
        self._ingest, self._run_id = ingest, run_id
        self._to_do: int | None = None
        self._sizes: dict[str, dict[int, int]] = {}  # documents of each batch, by source and map index

    def describe(self) -> str:
        """`40 of 992 documents written (400 split, 120 embedded)`."""
        tasks = list(self._ingest.list_task_instances(contracts.INGEST_DAG, self._run_id))
        over = [task for task in tasks if task["state"] == "success"]
        names = {task["task_id"] for task in over}
        if "plan" not in names:
            return "planning"
        if self._to_do is None:
            counts = self._read("plan")
            self._to_do = counts["added"] + counts["changed"]
        if not self._to_do:
            return "no document to write"
        for name in names:
            source, _, step = name.rpartition(".")
            if step == "extract" and source not in self._sizes:
                batches = enumerate(self._read(name))
                self._sizes[source] = {index: len(batch["uris"]) for index, batch in batches}
        done: Counter[str] = Counter()
        for task in over:
            source, _, step = task["task_id"].rpartition(".")
            if step in STEPS:
                done[step] += self._sizes.get(source, {}).get(task["map_index"], 0)
        earlier = ", ".join(f"{done[step]} {STEPS[step]}" for step in ("split", "prepare"))
        return f"{done['ingest']} of {self._to_do} documents written ({earlier})"

    def _read(self, task_id: str) -> Any:
        return self._ingest.read_xcom(contracts.INGEST_DAG, self._run_id, task_id)
