"""OpenLineage run events of our own processes, spooled to disk as one JSON object a line.

It knows no transport, database or Airflow: the relay takes the lines from the spool.
"""

import logging
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from shared import contracts
from shared.contracts import LineageDataset
from shared.json_lines import format_row

log = logging.getLogger(__name__)

EventType = Literal["START", "RUNNING", "COMPLETE", "FAIL", "ABORT", "OTHER"]
Facets = Mapping[str, Mapping[str, Any]]

SPOOL_FILE: Final = "events.jsonl"
_SPEC: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
_SCHEMAS: Final = {
    "datasetVersion": "https://openlineage.io/spec/facets/1-0-1/DatasetVersionDatasetFacet.json",
    "outputStatistics": "https://openlineage.io/spec/facets/1-0-2/OutputStatisticsOutputDatasetFacet.json",
    "inputStatistics": "https://openlineage.io/spec/facets/1-0-0/InputStatisticsInputDatasetFacet.json",
    "errorMessage": "https://openlineage.io/spec/facets/1-0-1/ErrorMessageRunFacet.json",
    "documentation": "https://openlineage.io/spec/facets/1-0-1/DocumentationJobFacet.json",
    "parent": "https://openlineage.io/spec/facets/1-1-0/ParentRunFacet.json",
}
_INPUT_FACETS: Final = frozenset({"inputStatistics", "dataQualityMetrics"})
_OUTPUT_FACETS: Final = frozenset({"outputStatistics"})

_ASSET_DATASETS: Final = {
    contracts.KNOWLEDGE_CHANGED_ASSET: contracts.DOCUMENTS,
    contracts.KNOWLEDGE_BASE_ASSET: contracts.CHUNKS,
    contracts.EXAMPLES_ASSET: contracts.EXAMPLES,
    contracts.TRAINING_SET_ASSET: contracts.TRAINING_SET,
    contracts.CHALLENGER_ASSET: contracts.MODEL,
    contracts.CHAMPION_ASSET: contracts.MODEL,
}
# What a task reads or writes without waking anyone: inlets and outlets that no Dag is scheduled on.
LINEAGE_ASSET_PREFIX: Final = "ghostwriter://lineage/"
_LINEAGE_ASSETS: Final = {
    contracts.DOCUMENTS: "documents",
    contracts.EXAMPLES: "examples",
    contracts.TRAINING_SET: "training_set",
    contracts.CHUNKS: "chunks",
    contracts.ADAPTERS: "adapters",
    contracts.MODEL: "model",
    contracts.POSTS: "posts",
}
_DATASETS_BY_LINEAGE_ASSET: Final = {
    f"{LINEAGE_ASSET_PREFIX}{name}": dataset for dataset, name in _LINEAGE_ASSETS.items()
}


def lineage_asset(dataset: LineageDataset) -> str:
    """URI of the asset that stands for a dataset in inlets and outlets; `dataset_of` maps it back."""
    return f"{LINEAGE_ASSET_PREFIX}{_LINEAGE_ASSETS[dataset]}"


def dataset_of(asset_uri: str) -> LineageDataset | None:
    """The dataset that an Airflow asset stands for, or None where it stands for none of ours."""
    uri = asset_uri.rstrip("/")
    return _ASSET_DATASETS.get(uri) or _DATASETS_BY_LINEAGE_ASSET.get(uri)


def dataset_facets(
    *, version: str | None = None, row_count: int | None = None, size: int | None = None, **details: Any
) -> dict[str, dict[str, Any]]:
    """Facets of a dataset: version, rows, bytes, and any JSON details (ids, counts; no text)."""
    facets: dict[str, dict[str, Any]] = {}
    if version is not None:
        facets["version"] = {"datasetVersion": version}
    if row_count is not None or size is not None:
        statistics = {"rowCount": row_count, "size": size}
        facets["outputStatistics"] = {key: value for key, value in statistics.items() if value is not None}
    if details:
        facets["ghostwriter"] = {"details": details}
    return facets


def build_event(
    event_type: EventType,
    run_id: str,
    job_namespace: str,
    job_name: str,
    inputs: Iterable[LineageDataset] = (),
    outputs: Iterable[LineageDataset] = (),
    *,
    run_facets: Facets | None = None,
    job_facets: Facets | None = None,
    input_facets: Mapping[LineageDataset, Facets] | None = None,
    output_facets: Mapping[LineageDataset, Facets] | None = None,
    event_time: datetime | None = None,
) -> dict[str, Any]:
    """An OpenLineage RunEvent; `run_id` is a UUID. Facets may leave out `_producer` and `_schemaURL`."""
    time = event_time or datetime.now(UTC)
    return {
        "eventType": event_type,
        "eventTime": time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "producer": contracts.LINEAGE_PRODUCER,
        "schemaURL": f"{_SPEC}#/$defs/RunEvent",
        "run": {"runId": run_id, "facets": _with_schema(run_facets or {}, "RunFacet")},
        "job": {
            "namespace": job_namespace,
            "name": job_name,
            "facets": _with_schema(job_facets or {}, "JobFacet"),
        },
        "inputs": [_input(dataset, (input_facets or {}).get(dataset, {})) for dataset in inputs],
        "outputs": [_output(dataset, (output_facets or {}).get(dataset, {})) for dataset in outputs],
    }


class LineageSpool:
    """Appends events to `<directory>/<deployment>/events.jsonl`; several processes may write to the same file."""

    def __init__(self, directory: Path, deployment: str) -> None:
        self.path = directory / deployment / SPOOL_FILE

    def emit(
        self,
        event_type: EventType,
        run_id: str,
        job_namespace: str,
        job_name: str,
        inputs: Iterable[LineageDataset] = (),
        outputs: Iterable[LineageDataset] = (),
        run_facets: Facets | None = None,
        job_facets: Facets | None = None,
        input_facets: Mapping[LineageDataset, Facets] | None = None,
        output_facets: Mapping[LineageDataset, Facets] | None = None,
        event_time: datetime | None = None,
    ) -> None:
        """Spool one event; give START the same inputs and outputs as its end. Never raises into the work."""
        try:
            event = build_event(
                event_type,
                run_id,
                job_namespace,
                job_name,
                inputs,
                outputs,
                run_facets=run_facets,
                job_facets=job_facets,
                input_facets=input_facets,
                output_facets=output_facets,
                event_time=event_time,
            )
            append_line(self.path, format_row(event, default=str))
        except Exception as error:
            log.warning("lineage: %s of %s (run %s) was not spooled: %s", event_type, job_name, run_id, error)


def append_line(path: Path, line: str) -> None:
    """Append in one write, so that lines of several processes never mix. A torn last line is ended first.

    Readers skip blank lines: where another process is just writing, its line may look torn for a moment.
    """
    data = line.encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a full disk cut somebody's write short
            data = b"\n" + data
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes written to {path}")
    finally:
        os.close(descriptor)


def _input(dataset: LineageDataset, facets: Facets) -> dict[str, Any]:
    # Callers describe a dataset the same way on both sides; statistics have another name on this one.
    renamed = {("inputStatistics" if name == "outputStatistics" else name): f for name, f in facets.items()}
    return _element(dataset, renamed, "inputFacets", "InputDatasetFacet", _INPUT_FACETS)


def _output(dataset: LineageDataset, facets: Facets) -> dict[str, Any]:
    return _element(dataset, facets, "outputFacets", "OutputDatasetFacet", _OUTPUT_FACETS)


def _element(
    dataset: LineageDataset, facets: Facets, side: str, side_definition: str, side_names: frozenset[str]
) -> dict[str, Any]:
    own = {name: facet for name, facet in facets.items() if name not in side_names}
    sided = {name: facet for name, facet in facets.items() if name in side_names}
    return {
        "namespace": dataset.namespace,
        "name": dataset.name,
        "facets": _with_schema(own, "DatasetFacet"),
        side: _with_schema(sided, side_definition),
    }


def _with_schema(facets: Facets, definition: str) -> dict[str, dict[str, Any]]:
    complete = {}
    for name, facet in facets.items():
        schema = _SCHEMAS.get("datasetVersion" if name == "version" else name, f"{_SPEC}#/$defs/{definition}")
        complete[name] = {"_producer": contracts.LINEAGE_PRODUCER, "_schemaURL": schema, **facet}
    return complete
