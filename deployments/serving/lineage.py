"""Says which runs wrote posts, and reads the lineage graph of all deployments from the ledger.

It knows no transport: events go to a spool, and the relay takes them from there.
"""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from deployments.serving.lineage_graph import DatasetNode, JobNode, build_graph
from shared.contracts import CHUNKS, MODEL, POSTS, SERVING_NAMESPACE
from shared.ledger.models import LineageEvent, Post
from shared.lineage import EventType, LineageSpool, dataset_facets
from shared.times import show_time

WRITE_JOB = "write_post"
EVENTS_PER_JOB = 60  # enough for the runs of one mapped task
DETAIL_CHARACTERS = 300
_JOB_FACETS = {"documentation": {"description": "Writes a post from retrieved chunks with the chosen model."}}


class SpoolRunLog:
    """Writes OpenLineage events of `write_post`: ids, versions and counts, never a topic or a text."""

    def __init__(self, spool: LineageSpool) -> None:
        self._spool = spool

    def start(self, run_id: str) -> None:
        """The run began."""
        self._emit("START", run_id)

    def complete(self, run_id: str, post: Post) -> None:
        """The post was recorded."""
        model_details: dict[str, Any] = {"model_id": post.model_id, "alias": post.model_alias}
        chunk_details: dict[str, Any] = {
            "chunk_ids": [source.chunk_id for source in post.sources],
            "documents": [
                {"uri": source.uri, "content_hash": source.content_hash} for source in post.sources
            ],
        }
        self._emit(
            "COMPLETE",
            run_id,
            # No row count on the inputs: graphs would take the few chunks read for the size of the collection.
            input_facets={
                CHUNKS: dataset_facets(**chunk_details),
                MODEL: dataset_facets(version=post.model_version, **model_details),
            },
            output_facets={POSTS: dataset_facets(version=post.id, row_count=1)},
        )

    def fail(self, run_id: str, reason: str) -> None:
        """Nothing was recorded."""
        message = {"message": reason, "programmingLanguage": "python"}
        self._emit("FAIL", run_id, run_facets={"errorMessage": message})

    def _emit(self, event_type: EventType, run_id: str, **facets: Any) -> None:
        self._spool.emit(
            event_type,
            run_id,
            SERVING_NAMESPACE,
            WRITE_JOB,
            (CHUNKS, MODEL),
            (POSTS,),
            job_facets=_JOB_FACETS,
            **facets,
        )


def read_graph(session: Session) -> dict[str, Any]:
    """Nodes and edges for the page; each node's `details` say what its last run did, in words."""
    graph = build_graph(_read_latest_events(session))
    counts = {(row[0], row[1]): row[2] for row in session.execute(_RUNS_BY_JOB)}
    nodes = [_describe_dataset(node) for node in graph.datasets]
    nodes += [_describe_job(node, counts.get((node.namespace, node.name), node.runs)) for node in graph.jobs]
    return {"nodes": nodes, "edges": [{"source": edge.source, "target": edge.target} for edge in graph.edges]}


_RUNS_BY_JOB = select(
    LineageEvent.job_namespace, LineageEvent.job_name, func.count(LineageEvent.run_id.distinct())
).group_by(LineageEvent.job_namespace, LineageEvent.job_name)


def _read_latest_events(session: Session) -> list[dict[str, Any]]:
    # The newest of each job: a busy job (a post is written every second) must not push the others out of the picture.
    place = func.row_number().over(
        partition_by=(LineageEvent.job_namespace, LineageEvent.job_name),
        order_by=LineageEvent.event_time.desc(),
    )
    ranked = select(LineageEvent.id, place.label("place")).subquery()
    wanted = select(ranked.c.id).where(ranked.c.place <= EVENTS_PER_JOB)
    return list(session.scalars(select(LineageEvent.payload).where(LineageEvent.id.in_(wanted))))


def _describe_dataset(node: DatasetNode) -> dict[str, Any]:
    facts = {
        "namespace": node.namespace,
        "version": node.version,
        "rows": node.row_count,
        "bytes": node.size,
        "last written": show_time(node.updated_at),
        **node.details,
    }
    return _make_node(node.id, "dataset", node.name, False, facts)


def _describe_job(node: JobNode, runs: int) -> dict[str, Any]:
    facts = {
        "namespace": node.namespace,
        "last run": node.run_id,
        "state": node.state,
        "started": show_time(node.started_at),
        "ended": show_time(node.ended_at),
        "took": _show_duration(node.started_at, node.ended_at),
        "runs": runs,
        "error": node.error,
        **node.details,
    }
    return _make_node(node.id, "job", node.name, node.state in ("FAIL", "ABORT"), facts)


def _make_node(identifier: str, kind: str, name: str, failed: bool, facts: dict[str, Any]) -> dict[str, Any]:
    details = {key: _shorten(value) for key, value in facts.items() if value not in (None, "", "–", [], {})}
    return {"id": identifier, "kind": kind, "name": name, "failed": failed, "details": details}


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= DETAIL_CHARACTERS else text[:DETAIL_CHARACTERS] + "…"


def _show_duration(start: str | None, end: str | None) -> str | None:
    if not start or not end:
        return None
    return f"{(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds():.1f} s"
