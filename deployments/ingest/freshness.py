"""The deadline of a run of ingest: who waits for its sources to be looked at is told when that takes too long."""

import logging
from datetime import timedelta
from typing import Any, Final

from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference  # type: ignore[attr-defined]

log = logging.getLogger(__name__)

WITHIN: Final = timedelta(hours=2)
"""A run of ingest is over by then; a first ingestion of thousands of documents takes half an hour."""


async def tell(**kwargs: Any) -> None:
    """Called by the triggerer when a run has missed its deadline; a notifier may stand here instead."""
    run = (kwargs.get("context") or {}).get("dag_run", {})
    name = run.get("dag_run_id", "a run") if isinstance(run, dict) else run
    log.error(
        "Knowledge is not fresh: %s is not over %s after it was due. `ghostwriter knowledge status` says when "
        "each source was looked at last.", name, WITHIN,
    )  # fmt: skip


DEADLINE: Final = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=WITHIN, callback=AsyncCallback(tell)
)
