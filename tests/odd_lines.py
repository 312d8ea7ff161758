"""Lines that no deployment of ours writes, and that may stand in a spool all the same.

It knows no reader.
"""

import copy
import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from shared import contracts
from shared.lineage import build_event, dataset_facets

Event = dict[str, Any]


def airflow_events(runs: Iterable[int]) -> list[Event]:
    """START and COMPLETE of a task for each run, and the end of its Dag run, as Airflow tells of them."""
    events = []
    for run in runs:
        time = datetime(2026, 11, 23, 10, tzinfo=UTC) + timedelta(seconds=run)
        dag_run = str(UUID(int=10_000 + run))
        facets = {
            "parent": {"run": {"runId": dag_run}, "job": {"namespace": "ns", "name": "ingest"}},
            "airflow": {
                "dag": {"dag_id": "ingest"},
                "taskInstance": {"try_number": 1 + run % 2, "map_index": -1, "duration": 1.5},
            },
            "errorMessage": {"message": "none", "programmingLanguage": "python"},
        }
        for kind in ("START", "COMPLETE"):
            events.append(
                build_event(
                    kind,  # type: ignore[arg-type]
                    str(UUID(int=run)), "ns", "ingest.write", [contracts.DOCUMENTS], [contracts.CHUNKS],
                    run_facets=facets, event_time=time,
                    output_facets={contracts.CHUNKS: dataset_facets(version="1", row_count=3, documents=[1])},
                )
            )  # fmt: skip
        states = {"airflowState": {"tasksState": {"write": "success"}}}
        events.append(build_event("COMPLETE", dag_run, "ns", "ingest", run_facets=states, event_time=time))
    return events


def _changed(*path: str | int, value: Any = None, remove: bool = False, event: int = 0) -> bytes:
    made: Any = copy.deepcopy(airflow_events([1])[event])
    at = made
    for step in path[:-1]:
        at = at[step]
    if remove:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(made).encode()


def nest(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ODD_LINES: dict[str, bytes] = {
    "a time that no zone can hold": _changed("eventTime", value="0001-01-01T00:00:00+23:59"),
    "the last time there is": _changed("eventTime", value="9999-12-31T23:59:59-23:59"),
    "a time before all sums": _changed("eventTime", value="0001-01-02T00:00:00Z"),
    "a number for a time": _changed("eventTime", value=1e300),
    "nested 700 deep": _changed("run", "facets", "deep", value={"deep": nest(700)}),
    "nested 200 deep": _changed("run", "facets", "deep", value={"deep": nest(200)}),
    "nested 100,000 deep": b'{"a":' * 100_000,
    "no producer": _changed("producer", remove=True),
    "a list for a producer": _changed("producer", value=[]),
    "a number of 5,000 digits": b'{"eventType": ' + b"9" * 5_000 + b"}",
    "a try that is a text": _changed("run", "facets", "airflow", "taskInstance", "try_number", value="second"),
    "a list for a run": _changed("run", "facets", "parent", "run", value=[1]),
    "a text for a parent": _changed("run", "facets", "parent", value="none"),
    "a list of states": _changed("run", "facets", "airflowState", "tasksState", value=["success"], event=2),
    "a number for a message": _changed("run", "facets", "errorMessage", "message", value=5),
    "a list of statistics": _changed("outputs", 0, "outputFacets", "outputStatistics", value=[1]),
    "details that are none": _changed("outputs", 0, "facets", "ghostwriter", "details", value="many"),
    "a NUL in a name": _changed("job", "name", value="a\0b"),
    "half a character in a name": _changed("job", "name", value="\ud800"),
    "half a character in a kind": _changed("eventType", value="\ud800\0"),
    "no UTF-8": b'{"eventType": "\xff\xfe\xfa"}',
    "UTF-16": '{"eventType": 1}'.encode("utf-16"),
    "50 MB": b'{"a": "' + b"x" * 50_000_000 + b'"}',
    "no JSON": b"Traceback (most recent call last):",
}  # fmt: skip

_ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**63, 10**400, 1e308, -0.0, float("inf"), float("nan"), "", "a\0b", "\ud800",
    "x" * 5_000, [], {}, [None], [[]], {"": None}, {"\0": "\udfff"}, "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-01:00", "2026-11-23", str(UUID(int=7)), nest(70), nest(340), nest(700),
)  # fmt: skip


def make_odd_lines(chance: random.Random, count: int) -> list[bytes]:
    """Events with one to four of their parts removed, replaced or doubled, and a few with wrong bytes."""
    lines = []
    for _ in range(count):
        event = copy.deepcopy(chance.choice(airflow_events([chance.randrange(1, 6)])))
        for _ in range(chance.randrange(1, 5)):
            _change(event, chance)
        line = bytearray(json.dumps(event).encode())
        if chance.random() < 0.2:
            for _ in range(chance.randrange(1, 4)):
                line[chance.randrange(len(line))] = chance.choice((0, 0x80, 0xFF, 0x7B, 0x22, 0x0D))
        lines.append(bytes(line).replace(b"\n", b" "))
    return lines


def _change(event: Event, chance: random.Random) -> None:
    places: list[tuple[Any, Any]] = []

    def walk(value: Any, depth: int = 0) -> None:
        if isinstance(value, dict | list) and depth < 20:
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                places.append((value, key))
                walk(value[key], depth + 1)

    walk(event)
    if not places:
        return
    holder, key = chance.choice(places)
    action = chance.random()
    if action < 0.25:
        del holder[key]
    elif action < 0.9:
        holder[key] = json.loads(json.dumps(chance.choice(_ODD_VALUES)))
    elif isinstance(holder, dict):
        holder[chance.choice(list(holder))] = holder[key]
    else:
        holder.append(holder[key])
