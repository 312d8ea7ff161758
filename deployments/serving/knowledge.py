"""The state of the knowledge base as the ledger has it, and the run that makes ingest look again.

It knows neither Weaviate nor what a source is made of.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from sqlalchemy.orm import Session

from shared import knowledge
from shared.contracts import ACCEPT_REMOVALS, INGEST_DAG
from shared.times import write_time


class Ingest(Protocol):
    """What the desk asks of the ingest deployment's Airflow; `shared.airflow.AirflowApi` is one."""

    def list_dag_runs(self, dag_id: str, /) -> Iterable[Mapping[str, Any]]: ...

    def trigger(self, dag_id: str, conf: Mapping[str, Any], /, *, run_id: str) -> str: ...


def describe_knowledge(session: Session) -> dict[str, Any]:
    """Counts of current documents and chunks, by source too, the newest version, and the files that can't be used.

    `removals` names those of the problems that are removals, each with the digest that accepts it.
    """
    counts = knowledge.count_sources(session)
    problems = knowledge.list_problems(session)
    version = knowledge.find_newest_version(session)
    return {
        "documents": sum(count.documents for count in counts),
        "chunks": sum(count.chunks for count in counts),
        "version": version and version.id,
        "digest": version and version.digest,
        "last_change": version and {"run": version.ingest_run, "at": write_time(version.created_at)},
        "sources": [
            {
                "source": count.source,
                "documents": count.documents,
                "chunks": count.chunks,
                "changed": write_time(count.changed),
            }
            for count in counts
        ],
        "problems": [{"uri": problem.uri, "message": problem.message} for problem in problems],
        "removals": [
            {"uri": problem.uri, "message": problem.message, "digest": problem.removal}
            for problem in problems
            if problem.removal
        ],
    }


def sync_knowledge(ingest: Ingest, asked_by: str, *, accept: Sequence[str] = ()) -> str:
    """Start the one run that looks at all sources; its id. Digests in `accept` let these removals go."""
    # A run that waits for its turn has not looked yet: it will see what this one would.
    queued = [run["dag_run_id"] for run in ingest.list_dag_runs(INGEST_DAG) if run["state"] == "queued"]
    if queued and not accept:
        return str(queued[-1])
    # The id makes a repeated request the same run.
    run_id = f"sync__{datetime.now(UTC).isoformat(timespec='seconds')}__{uuid4().hex[:8]}"
    conf = {"asked_by": asked_by, **({ACCEPT_REMOVALS: list(accept)} if accept else {})}
    return ingest.trigger(INGEST_DAG, conf, run_id=run_id)
