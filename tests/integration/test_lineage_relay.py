"""The relay as a process, on a real Postgres and against a server that stands for Marquez: killed, starved, ended."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from deployments.lineage.sinks.fake import FakeSink
from deployments.lineage.sinks.port import DeliveryFailedError
from deployments.lineage.store import LineageStore
from shared import contracts
from shared.ledger.models import Base, LineageEvent, LineageQuarantine, utc_now
from shared.ledger.sessions import create_sessions
from shared.lineage import LineageSpool, append_line
from tests.marquez_stand_in import serve_marquez
from tests.odd_lines import ODD_LINES, airflow_events, make_odd_lines
from tests.postgres_server import PASSWORD, ROOT, Postgres, free_port, serve_postgres, wait_for

START = datetime(2026, 11, 23, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with serve_postgres() as server:
        yield server


@pytest.fixture
def ledger(postgres: Postgres) -> Iterator[Engine]:
    engine = create_engine(postgres.dsn, pool_pre_ping=True)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


class Relay:
    def __init__(self, folder: Path, dsn: str, marquez_url: str) -> None:
        self.spool = folder / "spool"
        self.heartbeat = folder / "state" / "lineage" / "heartbeat"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "GHOSTWRITER_STATE_DIR": str(folder / "state"),
            "GHOSTWRITER_SECRETS_DIR": str(folder / "none"),
            "GHOSTWRITER_LINEAGE_SPOOL_DIR": str(self.spool),
            "GHOSTWRITER_LEDGER_URL": dsn,
            "GHOSTWRITER_MARQUEZ_URL": marquez_url,
        }
        self.log = folder / "relay.log"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployments.lineage"],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        return self.process


@contextmanager
def run_relay(folder: Path, dsn: str, marquez_url: str) -> Iterator[Relay]:
    relay = Relay(folder, dsn, marquez_url)
    try:
        yield relay
    finally:
        relay.process.kill()
        relay.process.wait(10)


def write_runs(spool: Path, runs: range, jobs: int = 8) -> None:
    """A START and a COMPLETE of each run, in the spools of two deployments."""
    for run in runs:
        own = LineageSpool(spool, ("ingest", "serving")[run % 2])
        for second, kind in enumerate(("START", "COMPLETE")):
            own.emit(
                kind,  # type: ignore[arg-type]
                str(UUID(int=run + 1)),
                contracts.INGEST_NAMESPACE,
                f"dag.job{run % jobs}",
                [contracts.DOCUMENTS],
                [contracts.CHUNKS],
                event_time=START + timedelta(seconds=2 * run + second),
            )


def count(ledger: Engine, *conditions: Any) -> int:
    with Session(ledger) as session:
        return session.scalar(select(func.count()).select_from(LineageEvent).where(*conditions)) or 0


def assert_runs_in_order(sink: FakeSink, runs: int) -> None:
    """Each run's first START came before its first COMPLETE, and COMPLETE is the last that the sink heard of it."""
    assert len(sink.run_states) == runs
    assert set(sink.run_states.values()) == {"COMPLETE"}
    first: dict[str, str] = {}
    for event in sink.events:
        first.setdefault(event["run"]["runId"], event["eventType"])
    assert set(first.values()) == {"START"}


def test_killed_in_mid_delivery_it_goes_on_where_it_was(
    tmp_path: Path, postgres: Postgres, ledger: Engine
) -> None:
    sink, runs = FakeSink(), 300
    write_runs(tmp_path / "spool", range(runs))
    append_line(tmp_path / "spool" / "ingest" / "events.jsonl", "{torn")
    with serve_marquez(sink) as url, run_relay(tmp_path, postgres.dsn, url) as relay:
        for reached in (60, 200, 350):
            wait_for(lambda reached=reached: len(sink.events) > reached)
            relay.process.kill()
            relay.process.wait(10)
            assert len(sink.events) < 2 * runs + 60  # it was in mid-delivery
            relay.start()
        wait_for(lambda: count(ledger, LineageEvent.delivered_at.is_not(None)) == 2 * runs)
        assert count(ledger) == 2 * runs
        assert_runs_in_order(sink, runs)
        with Session(ledger) as session:
            assert [row.line_excerpt for row in session.scalars(select(LineageQuarantine))] == ["{torn"]
        assert time.time() - relay.heartbeat.stat().st_mtime < 2


def test_a_marquez_that_fails_and_then_vanishes_gets_everything(
    tmp_path: Path, postgres: Postgres, ledger: Engine
) -> None:
    sink, runs, port = FakeSink(), 40, free_port()
    url = f"http://127.0.0.1:{port}"
    with run_relay(tmp_path, postgres.dsn, url):
        write_runs(tmp_path / "spool", range(runs))
        wait_for(lambda: count(ledger) == 2 * runs)  # kept while there is none
        sink.failures = [DeliveryFailedError("HTTP 500: race")] * 25
        with serve_marquez(sink, port):
            wait_for(lambda: len(sink.events) > runs, 40)
        write_runs(tmp_path / "spool", range(runs, runs + 10))
        wait_for(lambda: count(ledger) == 2 * (runs + 10))
        with serve_marquez(sink, port):
            wait_for(lambda: count(ledger, LineageEvent.delivered_at.is_(None)) == 0, 40)
        assert_runs_in_order(sink, runs + 10)
        assert not sink.failures


def test_a_ledger_that_goes_away_loses_nothing(tmp_path: Path, postgres: Postgres, ledger: Engine) -> None:
    with run_relay(tmp_path, postgres.dsn, "") as relay:
        write_runs(tmp_path / "spool", range(5))
        wait_for(lambda: count(ledger) == 10)
        ledger.dispose()
        postgres.stop()
        write_runs(tmp_path / "spool", range(5, 10))
        time.sleep(2.5)
        assert relay.process.poll() is None and time.time() - relay.heartbeat.stat().st_mtime < 2
        postgres.start()
        wait_for(lambda: count(ledger) == 20)
    assert "no ledger" in relay.log.read_text() and PASSWORD not in relay.log.read_text()


def test_it_ends_quickly_when_asked(tmp_path: Path, postgres: Postgres, ledger: Engine) -> None:
    sink = FakeSink()
    write_runs(tmp_path / "spool", range(400))
    with serve_marquez(sink) as url, run_relay(tmp_path, postgres.dsn, url) as relay:
        wait_for(lambda: len(sink.events) > 20)
        asked = time.monotonic()
        relay.process.terminate()
        assert relay.process.wait(5) == 0
        assert time.monotonic() - asked < 2
        assert len(sink.events) < 800


def test_stored_events_hold_no_run_configuration(tmp_path: Path, postgres: Postgres, ledger: Engine) -> None:
    spool = LineageSpool(tmp_path / "spool", "ingest")
    spool.emit(
        "START", str(UUID(int=1)), "ns", "dag.task", run_facets={"airflow": {"dagRun": {"conf": "s3cret"}}}
    )
    with run_relay(tmp_path, postgres.dsn, ""):
        wait_for(lambda: count(ledger) == 1)
    with Session(ledger) as session:
        assert "s3cret" not in json.dumps(session.scalars(select(LineageEvent.payload)).all())


# As Airflow's tasks and as our own deployments do: a process of its own, one event after the other.
WRITER = """
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.transport.file import FileConfig, FileTransport
from shared.lineage import LineageSpool

folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
spool = LineageSpool(folder, "ingest")
transport = FileTransport(FileConfig(log_file_path=str(spool.path), append=True))
for number in range(first, first + count):
    run = str(UUID(int=number + 1))
    if number % 2:
        spool.emit("START", run, "ns", "ours" + "x" * 400)
    else:
        now = datetime.now(timezone.utc).isoformat()
        job = Job(namespace="ns", name="airflow" + "x" * 400)
        transport.emit(
            RunEvent(eventTime=now, run=Run(runId=run), job=job, eventType=RunState.START, producer="https://p")
        )
    time.sleep(0.005)
"""


def test_a_spool_that_is_written_to_is_trimmed_without_losing_or_doubling_an_event(
    tmp_path: Path, postgres: Postgres, ledger: Engine
) -> None:
    writers, count_each = 3, 1_200
    spool = tmp_path / "spool" / "ingest" / "events.jsonl"
    spool.parent.mkdir(parents=True)
    command = [sys.executable, "-c", WRITER, str(tmp_path / "spool")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([*command, str(number * count_each), str(count_each)], cwd=ROOT, env=environment)
        for number in range(writers)
    ]
    total = writers * count_each
    try:
        with run_relay(tmp_path, postgres.dsn, "") as relay:
            for share in (0.1, 0.3, 0.5, 0.7):  # killed anywhere between two lines of its code
                wait_for(lambda share=share: count(ledger) >= share * total, 60)
                relay.process.kill()
                relay.process.wait(10)
                relay.start()
            for process in processes:
                assert process.wait(60) == 0
            wait_for(lambda: count(ledger) == total, 60)
            size = spool.stat().st_size
            if "can't be given back" not in relay.log.read_text():
                wait_for(lambda: spool.stat().st_blocks * 512 < 20_000)
            assert size > 600 * total
    finally:
        for process in processes:
            process.kill()
    with Session(ledger) as session:
        runs = session.scalars(select(LineageEvent.run_id)).all()
        assert sorted(runs) == [str(UUID(int=number + 1)) for number in range(total)]
        assert session.scalars(select(LineageQuarantine)).all() == []


def test_odd_lines_kill_nothing_and_hold_up_nothing(
    tmp_path: Path, postgres: Postgres, ledger: Engine
) -> None:
    spool = tmp_path / "spool" / "ingest" / "events.jsonl"
    spool.parent.mkdir(parents=True)
    lines = [*ODD_LINES.values(), *make_odd_lines(random.Random(7), 3_000)]
    for event in airflow_events(range(1000, 1100)):
        lines.insert(random.Random(event["eventTime"]).randrange(len(lines)), json.dumps(event).encode())
    spool.write_bytes(b"\n".join(lines) + b"\n")
    good = LineageEvent.run_id.in_([str(UUID(int=run)) for run in range(1000, 1100)])
    with run_relay(tmp_path, postgres.dsn, "") as relay:
        wait_for(lambda: count(ledger, good) == 200, 60)
        LineageSpool(tmp_path / "spool", "ingest").emit("START", str(UUID(int=5000)), "ns", "last")
        wait_for(lambda: count(ledger, LineageEvent.run_id == str(UUID(int=5000))) == 1)
        assert relay.process.poll() is None
        assert "Traceback" not in relay.log.read_text() and "no ledger" not in relay.log.read_text()
    with Session(ledger) as session:
        digests = session.scalars(select(LineageQuarantine.digest)).all()
        assert len(digests) == len(set(digests)) > len(ODD_LINES)
    store = LineageStore(create_sessions(postgres.dsn))
    store.close_runs(0, utc_now())


def test_a_killed_tasks_run_is_closed(tmp_path: Path, postgres: Postgres, ledger: Engine) -> None:
    spool = LineageSpool(tmp_path / "spool", "ingest")
    parent = {"parent": {"run": {"runId": str(UUID(int=9))}, "job": {"namespace": "ns", "name": "ingest"}}}
    states = {"airflowState": {"tasksState": {"write": "failed"}}}
    spool.emit("START", str(UUID(int=1)), "ns", "ingest.write", outputs=[contracts.CHUNKS], run_facets=parent)
    spool.emit("FAIL", str(UUID(int=9)), "ns", "ingest", run_facets=states)
    with run_relay(tmp_path, postgres.dsn, ""):
        wait_for(lambda: count(ledger) == 2)
    store = LineageStore(create_sessions(postgres.dsn))
    assert store.close_runs(0, utc_now())[1] == 1 and store.close_runs(0, utc_now())[1] == 0
    assert count(ledger, LineageEvent.run_id == str(UUID(int=1)), LineageEvent.event_type == "FAIL") == 1


def test_a_killed_try_is_closed_when_the_next_begins(
    tmp_path: Path, postgres: Postgres, ledger: Engine
) -> None:
    spool = LineageSpool(tmp_path / "spool", "ingest")
    parent = {"parent": {"run": {"runId": str(UUID(int=9))}, "job": {"namespace": "ns", "name": "ingest"}}}
    for number in (1, 2):
        facets = {**parent, "airflow": {"taskInstance": {"try_number": number, "map_index": -1}}}
        run = str(UUID(int=number))
        spool.emit("START", run, "ns", "ingest.write", outputs=[contracts.CHUNKS], run_facets=facets)
    with run_relay(tmp_path, postgres.dsn, ""):
        wait_for(lambda: count(ledger) == 2)
    store = LineageStore(create_sessions(postgres.dsn))
    assert store.close_runs(0, utc_now())[1] == 1 and store.close_runs(0, utc_now())[1] == 0
    assert count(ledger, LineageEvent.run_id == str(UUID(int=1)), LineageEvent.event_type == "FAIL") == 1
    assert count(ledger, LineageEvent.run_id == str(UUID(int=2))) == 1
