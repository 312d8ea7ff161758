"""The lineage graph drawn from OpenLineage events: datasets, the jobs between them, and each job's last run.

It knows no database and no picture: it takes events as dicts and gives nodes and edges.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

Event = dict[str, Any]
State = Literal["RUNNING", "COMPLETE", "FAIL", "ABORT"]

TERMINAL: Final = frozenset({"COMPLETE", "FAIL", "ABORT"})


@dataclass
class DatasetNode:
    """`version`, `row_count` and `size` are those that its last writer named, or its readers where nobody wrote it."""

    id: str  # dataset:NAMESPACE:NAME
    namespace: str
    name: str
    version: str | None = None
    row_count: int | None = None
    size: int | None = None
    updated_at: str | None = None  # end of the last successful run that wrote it
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class JobNode:
    """`state`, times and details are those of its last run; an unfinished run counts only where none has ended."""

    id: str  # job:NAMESPACE:NAME
    namespace: str
    name: str
    state: State
    run_id: str
    started_at: str | None
    ended_at: str | None
    runs: int
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Edge:
    """From a dataset to the job that reads it, or from a job to the dataset that it writes; ids of nodes."""

    source: str
    target: str


@dataclass
class LineageGraph:
    """Nodes and edges, sorted, so that the same events give the same graph."""

    datasets: list[DatasetNode]
    jobs: list[JobNode]
    edges: list[Edge]


@dataclass
class Run:
    """The events of one run, read together."""

    run_id: str
    job: tuple[str, str]
    started_at: str | None = None
    ended_at: str | None = None
    state: State = "RUNNING"
    last: Event = field(default_factory=dict)


def build_graph(events: Iterable[Event]) -> LineageGraph:
    """The graph of all jobs that read or wrote a dataset; events may come in any order, and more than once."""
    ordered = sorted(events, key=_time)
    runs = list(collect_runs(ordered).values())
    jobs: dict[tuple[str, str], JobNode] = {}
    edges: set[Edge] = set()
    datasets: dict[str, DatasetNode] = {}
    for key in dict.fromkeys(run.job for run in runs):
        of_job = [run for run in runs if run.job == key]
        last = latest_run(of_job)
        inputs, outputs = last.last.get("inputs") or [], last.last.get("outputs") or []
        if not inputs and not outputs:
            continue
        jobs[key] = node = _job_node(last, len(of_job))
        edges |= {Edge(_dataset(datasets, item).id, node.id) for item in inputs}
        edges |= {Edge(node.id, _dataset(datasets, item).id) for item in outputs}
    ours = [event for event in ordered if (event["job"]["namespace"], event["job"]["name"]) in jobs]
    # Who writes a dataset knows its version and size; a reader may have read a part only, but is all that tells of
    # a dataset that comes from outside.
    written = {_dataset_id(item) for event in ours for item in event.get("outputs") or []}
    for event in ours:
        for item in event.get("inputs") or []:
            if _dataset_id(item) not in written and (dataset := datasets.get(_dataset_id(item))):
                _describe(dataset, item, item.get("inputFacets"), "inputStatistics")
        for item in event.get("outputs") or []:
            if event.get("eventType") == "COMPLETE" and (dataset := datasets.get(_dataset_id(item))):
                _describe(dataset, item, item.get("outputFacets"), "outputStatistics")
                dataset.updated_at = event["eventTime"]
    return LineageGraph(
        datasets=sorted(datasets.values(), key=lambda node: node.id),
        jobs=sorted(jobs.values(), key=lambda node: node.id),
        edges=sorted(edges, key=lambda edge: (edge.source, edge.target)),
    )


def collect_runs(events: Iterable[Event]) -> dict[str, Run]:
    """Runs by id. A START or RUNNING that comes after the end changes nothing; nor do datasets get lost at the end."""
    runs: dict[str, Run] = {}
    for event in sorted(events, key=_time):
        run_id = event["run"]["runId"]
        job = (event["job"]["namespace"], event["job"]["name"])
        run = runs.setdefault(run_id, Run(run_id, job))
        kind = event.get("eventType")
        if kind == "START":
            run.started_at = run.started_at or event["eventTime"]
        if kind in TERMINAL:
            run.state, run.ended_at = kind, event["eventTime"]
        elif run.state in TERMINAL:
            continue
        run.last = _with_datasets_of(run.last, event)
    return runs


def latest_run(runs: list[Run]) -> Run:
    """The run that ended last, or the one that started last where none has ended."""
    ended = [run for run in runs if run.state in TERMINAL]
    return max(
        ended or runs,
        key=lambda run: (_parse(run.ended_at or run.started_at or run.last["eventTime"]), run.run_id),
    )


def _with_datasets_of(earlier: Event, event: Event) -> Event:
    """A task that a person marks as done ends with a bare event: what it read and wrote stands in its START."""
    if earlier and not event.get("inputs") and not event.get("outputs"):
        return {**event, "inputs": earlier.get("inputs"), "outputs": earlier.get("outputs")}
    return event


def _job_node(run: Run, runs: int) -> JobNode:
    namespace, name = run.job
    facets = (run.last.get("run") or {}).get("facets") or {}
    return JobNode(
        id=f"job:{namespace}:{name}",
        namespace=namespace,
        name=name,
        state=run.state,
        run_id=run.run_id,
        started_at=run.started_at,
        ended_at=run.ended_at,
        runs=runs,
        error=(facets.get("errorMessage") or {}).get("message"),
        details=_read_details(facets),
    )


def _dataset_id(item: dict[str, Any]) -> str:
    return f"dataset:{item['namespace']}:{item['name']}"


def _dataset(datasets: dict[str, DatasetNode], item: dict[str, Any]) -> DatasetNode:
    identifier = _dataset_id(item)
    return datasets.setdefault(identifier, DatasetNode(identifier, item["namespace"], item["name"]))


def _describe(node: DatasetNode, item: dict[str, Any], sided: dict[str, Any] | None, statistics: str) -> None:
    facets = item.get("facets") or {}
    counts = (sided or {}).get(statistics) or {}
    node.version = (facets.get("version") or {}).get("datasetVersion") or node.version
    node.row_count = counts.get("rowCount", node.row_count)
    node.size = counts.get("size", node.size)
    node.details = _read_details(facets) or node.details


def _time(event: Event) -> datetime:
    return _parse(event["eventTime"])


def _parse(time: str) -> datetime:
    parsed = datetime.fromisoformat(time)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _read_details(facets: Mapping[str, Any]) -> dict[str, Any]:
    """What a run or dataset says under `ghostwriter`: straight in the facet, or under `details` from Airflow tasks."""
    facet = facets.get("ghostwriter") or {}
    return facet.get("details") or {key: value for key, value in facet.items() if not key.startswith("_")}
