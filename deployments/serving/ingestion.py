"""When ingest last ran to its end, as its Airflow has it: a run that finds nothing new leaves no trace in the ledger.

It knows no ledger and no page.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from shared.contracts import INGEST_DAG
from shared.times import write_time

log = logging.getLogger(__name__)


class IngestRuns(Protocol):
    """Whatever can list the runs of a Dag, as Airflow's REST API gives them."""

    def list_dag_runs(self, dag_id: str, /) -> Iterable[Mapping[str, Any]]:
        """The newest first. Raises RuntimeError where Airflow can't be asked."""


def find_last_ingestion(api: IngestRuns) -> dict[str, Any]:
    """`last_ingest`: run, state (`success` or `failed`) and end of the run that ended last; None where none has.

    Where Airflow can't be asked, `last_ingest` is None too, and `notes` says so.
    """
    try:
        runs = [run for run in api.list_dag_runs(INGEST_DAG) if run["state"] in ("success", "failed")]
    except (RuntimeError, OSError) as error:
        log.warning("ingest: %s", error)
        return {"last_ingest": None, "notes": [f"Ingest can't be asked when it last ran: {error}"]}
    ends = {run["dag_run_id"]: datetime.fromisoformat(run["end_date"]) for run in runs if run.get("end_date")}
    if not ends:
        return {"last_ingest": None, "notes": []}
    last = max(ends, key=lambda run_id: ends[run_id])
    state = next(run["state"] for run in runs if run["dag_run_id"] == last)
    return {"last_ingest": {"run": last, "state": state, "at": write_time(ends[last])}, "notes": []}
