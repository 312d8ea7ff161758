"""Turns a spooled line into an event that may leave the deployment: checked, without secrets, of bounded size.

It knows no file and no database. Airflow puts run configurations, user names, stack traces and more into its
events: from its facets we keep only what is named here.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from shared.ledger.errors import cut_values

Event = dict[str, Any]

EVENT_TYPES: Final = frozenset({"START", "RUNNING", "COMPLETE", "FAIL", "ABORT", "OTHER"})
TERMINAL: Final = frozenset({"COMPLETE", "FAIL", "ABORT"})
MAX_TEXT: Final = 2_048  # characters
MAX_EVENT: Final = 256 * 1024  # bytes
_LARGEST: Final = 2**63 - 1
MAX_DEPTH: Final = 64  # objects and lists in one another
YEARS: Final = range(1970, 3000)  # clocks may be wrong, but a time must leave room for the sums done with it

_DROPPED_FACETS: Final = frozenset(
    {"sourceCode", "sourceCodeLocation", "environmentVariables", "debug", "unknownSourceAttribute", "sql"}
)
# facet -> object -> fields
_AIRFLOW_FACETS: Final = {
    "airflow": {
        "dag": {"dag_id", "timetable_summary"},
        "dagRun": {"dag_id", "run_id", "run_type", "logical_date", "run_after", "start_date", "clear_number"},
        "task": {"task_id", "mapped", "operator_class", "retries", "trigger_rule", "upstream_task_ids"},
        "taskInstance": {"try_number", "map_index", "duration", "queued_dttm"},
    },
    "airflowDagRun": {
        "dag": {"dag_id", "timetable_summary"},
        "dagRun": {"dag_id", "run_id", "run_type", "logical_date", "start_date", "end_date", "duration"},
    },
}
# What is read of facets later on, by path: the type that it must have where it is there.
_TYPES: Final[dict[tuple[str, ...], type]] = {
    ("parent", "run"): dict,
    ("parent", "run", "runId"): str,
    ("airflow", "taskInstance", "try_number"): int,
    ("airflow", "taskInstance", "map_index"): int,
    ("airflowState", "tasksState"): dict,
    ("errorMessage", "message"): str,
    ("ghostwriter", "details"): dict,
    ("version", "datasetVersion"): str,
}
_CREDENTIALS: Final = re.compile(r"(?<=//)[^/\s:@]*:[^/\s@]+(?=@)|(?<=Bearer )\S+|\bsk-[\w-]{8,}")
# Spans that Postgres' JSON can't hold.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class BadLineError(ValueError):
    """This line is no OpenLineage run event; the message says why."""


@dataclass(frozen=True)
class CleanEvent:
    """An event with the fields that the ledger keeps beside it; `digest` names it."""

    digest: str
    run_id: str
    job_namespace: str
    job_name: str
    event_type: str
    event_time: datetime
    payload: Event


def clean_line(line: bytes) -> CleanEvent:
    """Parse, check and clean one line; raises BadLineError."""
    try:
        parsed = json.loads(line.strip(b"\0"))  # a power cut can leave a run of zeros before the next event
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"not JSON: {error}") from error
    return clean_event(parsed)


def clean_excerpt(text: str) -> str:
    """What may be kept of a text that is no event: without credentials, storable, of bounded size."""
    return _clean_text(text)


def clean_event(event: Any) -> CleanEvent:
    """Check and clean one event; raises BadLineError."""
    if not isinstance(event, dict):
        raise BadLineError("not a JSON object")
    try:
        run_id = str(UUID(event["run"]["runId"]))
        namespace, name = event["job"]["namespace"], event["job"]["name"]
        event_type, time = event["eventType"], _read_time(event["eventTime"])
        if event_type not in EVENT_TYPES:
            raise BadLineError(f"unknown eventType {event_type!r}")
        _check_name(namespace, 200)
        _check_name(name, 500)
        _check_name(event["producer"], 2_000)
        event = _clean_event_facets({**event})
        for side in ("inputs", "outputs"):
            for dataset in event[side]:
                _check_name(dataset["namespace"], 500)
                _check_name(dataset["name"], 500)
    except BadLineError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadLineError(f"no OpenLineage run event: {type(error).__name__}: {error}") from error
    payload = _clean_value({**event, "eventTime": time.isoformat().replace("+00:00", "Z")})
    if len(json.dumps(payload)) > MAX_EVENT:
        payload = _drop_details(payload)
    data = json.dumps(payload, sort_keys=True, allow_nan=False)
    if len(data) > MAX_EVENT:
        raise BadLineError(f"{len(data)} bytes are left after cleaning, more than {MAX_EVENT}")
    digest = hashlib.sha256(data.encode()).hexdigest()
    return CleanEvent(digest, run_id, namespace, name, event_type, time, payload)


def _read_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.year not in YEARS:
        raise BadLineError(f"eventTime out of range: {text[:40]!r}")
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _check_name(name: Any, limit: int) -> None:
    if not isinstance(name, str) or not name or len(name) > limit or _UNSTORABLE.search(name):
        raise BadLineError(f"a name is missing, too long or no text: {str(name)[:80]!r}")


def _clean_event_facets(event: Event) -> Event:
    facets = {}
    for name, facet in _kept(event["run"].get("facets")).items():
        if allowed := _AIRFLOW_FACETS.get(name):
            facet = _select(facet, allowed)
        facets[name] = facet
    event["run"] = {"runId": event["run"]["runId"], "facets": facets}
    event["job"] = {**event["job"], "facets": _kept(event["job"].get("facets"))}
    for side in ("inputs", "outputs"):
        own = f"{side.removesuffix('s')}Facets"
        event[side] = [
            {**item, "facets": _kept(item.get("facets"))} | ({own: _kept(item[own])} if own in item else {})
            for item in event.get(side) or []
        ]
    return event


def _kept(facets: Any) -> dict[str, Any]:
    kept = {
        name: facet
        for name, facet in (facets or {}).items()
        if facet is not None and name not in _DROPPED_FACETS
    }
    for name, facet in kept.items():
        if not isinstance(facet, dict):
            raise BadLineError(f"the facet {name[:80]!r} is no object")
    for path, kind in _TYPES.items():
        value: Any = kept
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise BadLineError(f"{'.'.join(path)} in a facet is no {kind.__name__}")
    return kept


def _select(facet: Any, allowed: dict[str, set[str]]) -> dict[str, Any]:
    kept = {name: value for name, value in facet.items() if name.startswith("_")}
    for name, fields in allowed.items():
        part = facet.get(name)
        if isinstance(part, dict):
            kept[name] = {field: value for field, value in part.items() if field in fields}
    return kept


def _clean_value(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise BadLineError(f"nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        return _clean_text(value)
    if isinstance(value, dict):
        return {_clean_text(str(key)): _clean_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean_value(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) > _LARGEST:  # JSON knows no bounds, but those who read it do
        return None
    return value


def _clean_text(text: str) -> str:
    text = _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", _CREDENTIALS.sub("***", cut_values(text)))
    if len(text) <= MAX_TEXT:
        return text
    # The end of a stack trace names the error, the start of a message says what was tried: keep some of both.
    half = MAX_TEXT // 2 - 32
    return f"{text[:half]}\n… {len(text) - 2 * half} characters cut …\n{text[-half:]}"


def _drop_details(event: Event) -> Event:
    """Without the facets that have no bound: details per document, schemas."""

    def bare(item: dict[str, Any]) -> dict[str, Any]:
        return {
            **item,
            "facets": {
                name: facet for name, facet in item["facets"].items() if name in {"version", "parent"}
            },
        }

    event = {**event, "run": bare(event["run"]), "job": bare(event["job"])}
    return {**event, **{side: [bare(item) for item in event[side]] for side in ("inputs", "outputs")}}
