"""Nothing that stands in a spool stops the relay: the odd line is put aside with the reason, the rest goes on."""

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from deployments.lineage.relay import Relay
from deployments.lineage.store import LineageStore
from deployments.serving.lineage_graph import build_graph
from shared.ledger.models import LineageEvent, utc_now
from shared.lineage import append_line, build_event
from tests.odd_lines import ODD_LINES, airflow_events, make_odd_lines
from tests.unit.lineage.conftest import LedgerRows

Make = Callable[..., dict[str, Any]]


class Reader(LedgerRows):
    """A relay that takes one look at its spools, over a ledger in memory."""

    def __init__(self, folder: Path, sessions: sessionmaker[Session]) -> None:
        self.path = folder / "spool" / "ingest" / "events.jsonl"
        self.path.parent.mkdir(parents=True)
        self.sessions = sessions
        self.store = LineageStore(sessions)
        self.relay = Relay(
            self.path.parents[1], self.path.with_name("beat"), self.store, None, threading.Event()
        )

    def read(self) -> None:
        """As the process does after a start: all that is in the spools, then the ends of runs."""
        while self.relay.store_spools():
            pass
        self.store.close_runs(0, utc_now())

    def append(self, line: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(line + b"\n")


@pytest.fixture
def reader(tmp_path: Path, sessions: sessionmaker[Session]) -> Reader:
    return Reader(tmp_path, sessions)


@pytest.mark.parametrize("name", ODD_LINES)
def test_an_odd_line_is_put_aside_once_and_the_next_is_stored(
    reader: Reader, make_event: Make, name: str
) -> None:
    reader.append(ODD_LINES[name])
    append_line(reader.path, json.dumps(make_event("START", 1, 0)))
    reader.read()
    assert [event.run_id for event in reader.stored()] == [str(UUID(int=1))]
    (row,) = reader.quarantine()
    assert row.error
    # Another file with the same lines takes its place, as after a restored backup.
    content = reader.path.read_bytes()
    reader.path.rename(reader.path.with_name("former"))
    reader.path.write_bytes(b"\n" + ODD_LINES[name] + b"\n" + content.lstrip(b"\0"))
    reader.read()
    assert len(reader.stored()) == 1 and len(reader.quarantine()) == 1


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_of_an_event_the_others_are_stored_and_drawn(reader: Reader, seed: int) -> None:
    good = airflow_events(range(1000, 1010))
    lines = [*make_odd_lines(random.Random(seed), 60), *(json.dumps(event).encode() for event in good)]
    random.Random(seed).shuffle(lines)
    for line in lines:
        reader.append(line)
    reader.read()
    assert len(reader.stored()) + len(reader.quarantine()) >= len(set(lines)) - 30  # some mean the same
    stored = {(event.run_id, event.event_type) for event in reader.stored()}
    assert stored >= {(event["run"]["runId"], event["eventType"]) for event in good}
    build_graph(event.payload for event in reader.stored())


def test_zeros_that_a_power_cut_left_before_an_event_are_not_part_of_it(
    reader: Reader, make_event: Make
) -> None:
    reader.append(b"\0" * 5000)
    reader.append(b"\0" * 5000 + json.dumps(make_event("START", 1, 0)).encode())
    reader.read()
    assert len(reader.stored()) == 1 and reader.quarantine() == []


def test_no_credential_is_kept_of_a_line_that_is_put_aside(reader: Reader) -> None:
    reader.append(b"psycopg2 of postgresql://ledger:s3cret@127.0.0.1/ledger: Bearer s3cret.x \0")
    reader.append(b'{"eventType": "sk-s3cret9999"}')
    reader.append(json.dumps({**airflow_events([1])[0], "eventType": "sk-s3cret9999"}).encode())
    reader.read()
    kept = [row.line_excerpt + row.error for row in reader.quarantine()]
    assert len(kept) == 3 and not any("s3cret" in text for text in kept)


def test_an_event_that_an_earlier_version_let_in_does_not_keep_other_runs_open(
    reader: Reader, sessions: sessionmaker[Session]
) -> None:
    for dag in (1, 2):
        for number in (1, 2):
            facets = {
                "parent": {"run": {"runId": str(UUID(int=90 + dag))}},
                "airflow": {"taskInstance": {"try_number": number, "map_index": -1}},
            }
            run = str(UUID(int=10 * dag + number))
            event = build_event("START", run, "ns", f"dag{dag}.write", run_facets=facets)
            append_line(reader.path, json.dumps(event))
    while reader.relay.store_spools():
        pass
    with sessions.begin() as session:
        for row in session.scalars(select(LineageEvent).where(LineageEvent.job_name == "dag1.write")):
            row.payload = {key: value for key, value in row.payload.items() if key != "producer"}
    assert reader.store.close_runs(0, utc_now())[1] == 1
    assert [event.run_id for event in reader.stored() if event.event_type == "FAIL"] == [str(UUID(int=21))]


def test_many_short_lines_are_taken_in_portions(reader: Reader, make_event: Make) -> None:
    for number in range(12_000):
        reader.append(b"%d" % number)
    append_line(reader.path, json.dumps(make_event("START", 1, 0)))
    assert reader.relay.store_spools() and reader.stored() == []
    reader.read()
    assert len(reader.stored()) == 1 and len(reader.quarantine()) == 12_000
