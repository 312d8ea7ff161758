"""From spool to sink through a ledger: once in the ledger, in order at the sink, nothing lost, nothing stuck."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from deployments.lineage.delivery import MAX_ATTEMPTS, Deliverer
from deployments.lineage.relay import Relay
from deployments.lineage.sinks.fake import FakeSink
from deployments.lineage.sinks.port import DeliveryFailedError
from deployments.lineage.spool import Line, Position
from deployments.lineage.store import LineageStore
from shared.ledger.models import LineageEvent, utc_now
from shared.lineage import append_line
from tests.unit.lineage.conftest import LedgerRows

Make = Callable[..., dict[str, Any]]


class Setup(LedgerRows):
    """A relay over a ledger in memory; threads of its own only inside a delivery round."""

    def __init__(self, folder: Path, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        self.sink = FakeSink()
        self.store = LineageStore(sessions)
        # The ledger in memory has one connection: one worker.
        self.deliverer = Deliverer(self.sink, self.store, workers=1, first_wait=0.001)
        self.spool = folder / "spool"
        self.path = self.spool / "ingest" / "events.jsonl"
        self.relay = self.new_relay()

    def new_relay(self) -> Relay:
        return Relay(self.spool, self.spool / "beat", self.store, self.deliverer, self.deliverer.stop)

    def write(self, *events: dict[str, Any]) -> None:
        for event in events:
            append_line(self.path, json.dumps(event))

    def deliver(self, rounds: int = 12) -> None:
        for _ in range(rounds):
            self.deliverer.deliver_round()
            self.deliverer._not_before.clear()

    def sent(self) -> list[tuple[str, int]]:
        return [(event["eventType"], UUID(event["run"]["runId"]).int) for event in self.sink.events]


@pytest.fixture
def setup(tmp_path: Path, sessions: sessionmaker[Session]) -> Setup:
    return Setup(tmp_path, sessions)


def test_events_are_stored_once_and_delivered_in_order(setup: Setup, make_event: Make) -> None:
    setup.write(make_event("COMPLETE", 1, 1), make_event("START", 2, 2), make_event("START", 1, 0))
    setup.relay.store_spools()
    setup.write(make_event("COMPLETE", 2, 3), make_event("COMPLETE", 1, 1))
    setup.relay.store_spools()
    setup.deliver()
    assert setup.sent() == [("START", 1), ("COMPLETE", 1), ("START", 2), ("COMPLETE", 2)]
    assert all(row.delivered_at and row.attempts == 1 for row in setup.stored())


def test_a_spool_that_was_replaced_gives_only_what_is_new(setup: Setup, make_event: Make) -> None:
    setup.write(make_event("START", 1, 0))
    setup.relay.store_spools()
    setup.path.unlink()
    setup.write(make_event("START", 1, 0), make_event("COMPLETE", 1, 1))
    setup.relay.store_spools()
    assert [row.event_type for row in setup.stored()] == ["START", "COMPLETE"]


def test_a_relay_that_was_overtaken_stores_nothing(setup: Setup, make_event: Make) -> None:
    spool = "ingest/events.jsonl"
    setup.write(make_event("START", 1, 0))
    stale = setup.store.read_position(spool)
    setup.relay.store_spools()
    now = setup.store.read_position(spool)
    line = Line(0, json.dumps(make_event("START", 2, 0)).encode())
    assert setup.store.store_lines(spool, "ingest", [line], stale, Position(now.inode, 5)) == (0, 0)
    assert len(setup.stored()) == 1 and setup.store.read_position(spool) == now != stale


def test_a_bad_line_is_put_aside_and_blocks_nothing(setup: Setup, make_event: Make) -> None:
    append_line(setup.path, '{"run": "nonsense\\u0000"}')
    setup.write(make_event("START", 1, 0))
    setup.relay.store_spools()
    (bad,) = setup.quarantine()
    assert bad.position == 0 and "nonsense" in bad.line_excerpt and "run event" in bad.error
    assert len(setup.stored()) == 1


def test_a_start_that_comes_after_the_end_is_not_sent(setup: Setup, make_event: Make) -> None:
    setup.write(make_event("COMPLETE", 1, 1))
    setup.relay.store_spools()
    setup.deliver()
    setup.write(make_event("START", 1, 0))
    setup.relay.store_spools()
    setup.deliver()
    assert setup.sent() == [("COMPLETE", 1)]
    late = setup.stored()[1]
    assert late.delivered_at and late.last_error == "not sent: it came after the end of its run"


def test_events_wait_for_a_sink_that_appears_later(setup: Setup, make_event: Make) -> None:
    setup.sink.away = True
    setup.write(make_event("START", 1, 0), make_event("COMPLETE", 1, 1))
    setup.relay.store_spools()
    setup.deliver(3)
    assert setup.sent() == [] and [row.attempts for row in setup.stored()] == [0, 0]
    setup.sink.away = False
    setup.deliver()
    assert setup.sent() == [("START", 1), ("COMPLETE", 1)]


def test_a_failure_is_tried_again_before_what_follows(setup: Setup, make_event: Make) -> None:
    setup.sink.failures = [DeliveryFailedError("HTTP 500: race")] * 3
    setup.write(make_event("START", 1, 0), make_event("COMPLETE", 1, 1))
    setup.relay.store_spools()
    setup.deliver()
    assert setup.sent() == [("START", 1), ("COMPLETE", 1)]
    start, _ = setup.stored()
    assert start.attempts == 4 and start.last_error is None


def test_a_job_that_waits_holds_up_no_other(setup: Setup, make_event: Make) -> None:
    setup.sink.failing_runs = {str(UUID(int=1))}
    setup.write(
        make_event("START", 1, 0), make_event("COMPLETE", 1, 1), make_event("COMPLETE", 2, 2, job="other")
    )
    setup.relay.store_spools()
    setup.deliverer.first_wait = 60
    setup.deliverer.deliver_round()
    setup.deliverer.deliver_round()
    assert setup.sent() == [("COMPLETE", 2)] and setup.sink.attempts[str(UUID(int=1))] == 1


def test_an_event_that_always_fails_is_given_up_if_the_sink_is_well(setup: Setup, make_event: Make) -> None:
    setup.sink.failing_runs = {str(UUID(int=1))}
    setup.write(make_event("COMPLETE", 1, 0), make_event("COMPLETE", 2, 1))
    setup.relay.store_spools()
    setup.deliver(MAX_ATTEMPTS + 1)
    assert setup.sent() == [("COMPLETE", 2)] and setup.sink.attempts[str(UUID(int=1))] == MAX_ATTEMPTS
    (given_up,) = setup.quarantine()
    assert given_up.spool == "marquez" and "8 tries" in given_up.error


def test_a_sink_that_is_ill_refuses_nothing_for_good(setup: Setup, make_event: Make) -> None:
    setup.sink.ill = True
    setup.write(make_event("COMPLETE", 1, 0))
    setup.relay.store_spools()
    setup.deliver(MAX_ATTEMPTS + 3)
    setup.sink.ill = False
    setup.deliver(1)
    assert setup.sent() == [("COMPLETE", 1)] and setup.quarantine() == []


def test_a_refused_event_is_put_aside_with_the_reason(setup: Setup, make_event: Make) -> None:
    setup.write(make_event("START", 1, 0), make_event("COMPLETE", 2, 1))
    setup.relay.store_spools()
    with setup.sessions.begin() as session:
        row = session.scalars(select(LineageEvent).where(LineageEvent.event_type == "START")).one()
        row.payload = {**row.payload, "run": {"runId": ""}}
    setup.deliver()
    assert setup.sent() == [("COMPLETE", 2)]
    assert "422" in setup.quarantine()[0].error and "422" in (setup.stored()[0].last_error or "")


def test_a_run_left_open_is_closed_once_its_dag_has_ended_a_while_ago(setup: Setup, make_event: Make) -> None:
    parent = {"parent": {"run": {"runId": str(UUID(int=9))}, "job": {"namespace": "ns", "name": "ingest"}}}
    states = {"airflowState": {"tasksState": {"write": "failed"}}}
    setup.write(
        make_event("START", 1, 0, job="ingest.write", run_facets=parent),
        make_event("FAIL", 9, 5, job="ingest", bare=True, run_facets=states),
    )
    setup.relay.store_spools()
    assert setup.store.close_runs(0, utc_now() - timedelta(seconds=30)) == (0, 0)
    seen, closed = setup.store.close_runs(0, utc_now())
    assert closed == 1 and setup.store.close_runs(0, utc_now())[1] == 0
    assert setup.store.close_runs(seen, utc_now())[1] == 0
    setup.deliver()
    assert setup.sink.run_states[str(UUID(int=1))] == "FAIL"


def test_a_bare_end_is_stored_with_the_datasets_of_its_start(setup: Setup, make_event: Make) -> None:
    setup.write(make_event("START", 1, 0))
    setup.relay.store_spools()
    setup.write(make_event("COMPLETE", 1, 1, bare=True))
    setup.relay.store_spools()
    assert [item["name"] for item in setup.stored()[1].payload["outputs"]] == ["Chunk"]
