"""What the ingest Dag hears and tells: why it runs, what was accepted, what can't be used, news for training."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from shared import contracts
from shared.orchestration.recording import record_lineage
from shared.settings import get_settings

if TYPE_CHECKING:
    from deployments.ingest.commitment import Outcome

log = logging.getLogger(__name__)


def describe_reason(context: Mapping[str, Any]) -> str:
    """Who or what asked for this run: a person, events of sources, or the schedule."""
    run = context["dag_run"]
    if asked_by := (run.conf or {}).get("asked_by"):
        return f"asked for by {asked_by}"
    events = [event for found in (context.get("triggering_asset_events") or {}).values() for event in found]
    if not events:
        return {"manual": "started by hand", "scheduled": "daily"}.get(str(run.run_type), str(run.run_type))
    sources = sorted({str(event.extra["source"]) for event in events if (event.extra or {}).get("source")})
    return f"news of {', '.join(sources)}" if sources else "news of a source"


def read_accepted(context: Mapping[str, Any]) -> list[str]:
    """Digests of the removals that whoever started this run agreed to."""
    accepted = (context["dag_run"].conf or {}).get(contracts.ACCEPT_REMOVALS, [])
    if not isinstance(accepted, list) or not all(isinstance(digest, str) for digest in accepted):
        raise AirflowFailException(
            f"`{contracts.ACCEPT_REMOVALS}` is a list of digests, as `ghostwriter knowledge status --json` has them."
        )
    return accepted


def report_problems() -> list[dict[str, Any]]:
    """Names everything that can't be used; the removals that wait, as arguments of the runs that ask about them."""
    from deployments.ingest import composition, tasks

    with composition.build_ingest(get_settings()) as ingest:
        problems = tasks.list_problems(ingest)
    for problem in problems:
        log.error("%s is not in the knowledge base as it is now: %s", problem.uri, problem.message)
    if not problems:
        log.info("Everything could be read")
    return [
        {
            "trigger_run_id": f"removal__{problem.removal}",
            "conf": {"digest": problem.removal, "message": problem.message},
        }
        for problem in problems
        if problem.removal
    ]


def publish(context: Mapping[str, Any]) -> str | None:
    """Tell training; skipped where that can't be done, because the knowledge stands and the next run publishes it."""
    from deployments.ingest import composition, tasks

    try:
        with composition.build_ingest(get_settings()) as ingest:
            return tasks.publish(ingest, describe_run(context))
    except Exception as error:  # whatever it is, a run that has done its work must not fail for it
        log.error("Not published (%s): %s", type(error).__name__, error)
        log.error(
            "The knowledge base stands; the next run publishes it, and training looks by itself once a day."
        )
        raise AirflowSkipException(f"not published: {error}") from error


def record_outcome(outcome: "Outcome") -> None:
    """What the run came to, for its lineage."""
    record_lineage(
        inputs={contracts.DOCUMENTS: {"version": outcome.digest, "row_count": outcome.documents}},
        outputs={contracts.CHUNKS: {"version": outcome.digest, "row_count": outcome.chunks}},
        run={"written": outcome.written, "removed": outcome.removed, **outcome.counts},
    )


def record_failure(context: Mapping[str, Any]) -> None:
    """Of a run that failed: its row in the ledger says so."""
    from deployments.ingest import composition, tasks

    with composition.build_ingest(get_settings()) as ingest:
        tasks.record_failure(ingest, str(context["run_id"]))


def describe_run(context: Mapping[str, Any]) -> dict[str, str]:
    """How the consumer's lineage names this run as its cause."""
    run = context["dag_run"]
    return {
        "parentJobNamespace": contracts.INGEST_NAMESPACE,
        "parentJobName": contracts.INGEST_DAG,
        "parentRunId": _lineage_run_id(run),
    }


def _lineage_run_id(run: Any) -> str:
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter

    return OpenLineageAdapter.build_dag_run_id(
        dag_id=run.dag_id, logical_date=run.logical_date or run.run_after, clear_number=run.clear_number
    )
