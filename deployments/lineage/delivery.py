"""Sends stored events to the sink: jobs side by side, the events of one job in order, each until acknowledged.

It knows no HTTP and no SQL. A sink that is away is tried again for ever, an event that it fails on is given up after
some tries if the sink is well otherwise.
"""

import logging
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from deployments.lineage.cleaning import TERMINAL
from deployments.lineage.ordering import Pending, is_late, order_by_job
from deployments.lineage.sinks.port import DeliveryFailedError, EventRefusedError, LineageSink, SinkAwayError
from deployments.lineage.store import LineageStore

log = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 8
_ROUND: Final = 500  # events
_ROUND_OF_JOB: Final = 50  # so that a job with a backlog does not hold up the next round
_LONGEST_WAIT: Final = 30.0  # seconds

Job = tuple[str, str]


@dataclass
class Deliverer:
    """One per sink; `deliver_round` is called again and again by one thread."""

    sink: LineageSink
    store: LineageStore
    stop: threading.Event = field(default_factory=threading.Event)
    workers: int = 6
    first_wait: float = 0.5  # seconds
    _not_before: dict[Job, float] = field(default_factory=dict)
    _absences: int = 0

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="delivery")

    def deliver_round(self) -> Counter[str]:
        """Try what is pending; gives how many were delivered, late, refused and failed. Waits out a missing sink."""
        now = time.monotonic()
        self._not_before = {job: moment for job, moment in self._not_before.items() if moment > now}
        pending = self.store.pending(_ROUND, without_jobs=self._not_before)
        if not pending:
            return Counter()
        ended = self.store.ended_runs({event.run_id for event in pending})
        jobs = order_by_job(pending)
        tally: Counter[str] = Counter()
        away: str | None = None
        for future in [self._pool.submit(self._deliver_job, events, ended) for events in jobs.values()]:
            done, missing = future.result()
            tally += done
            away = away or missing
        if away:
            self._wait_for_sink(away)
        elif self._absences and tally["delivered"]:
            log.info("lineage: Marquez is back after %d tries", self._absences)
            self._absences = 0
        return tally

    def _deliver_job(self, events: list[Pending], ended: set[str]) -> tuple[Counter[str], str | None]:
        tally: Counter[str] = Counter()
        ended_here = {run for run in ended if any(event.run_id == run for event in events)}
        for event in events[:_ROUND_OF_JOB]:
            if self.stop.is_set():
                break
            if is_late(event, ended_here):
                self.store.mark_skipped(event.id, "it came after the end of its run")
                tally["late"] += 1
                continue
            try:
                self.sink.deliver(event.payload)
            except EventRefusedError as error:
                self._give_up(event, str(error))
                tally["refused"] += 1
                continue
            except DeliveryFailedError as error:
                tally["failed"] += 1
                if event.attempts + 1 >= MAX_ATTEMPTS and self.sink.is_well():
                    self._give_up(event, f"after {event.attempts + 1} tries: {error}")
                    tally["refused"] += 1
                    continue
                self.store.mark_failed(event.id, str(error))
                self._not_before[event.job] = time.monotonic() + self._wait(event.attempts)
                break
            except SinkAwayError as error:
                return tally, str(error)
            self.store.mark_delivered(event.id)
            tally["delivered"] += 1
            if event.event_type in TERMINAL:
                ended_here.add(event.run_id)
        return tally, None

    def _give_up(self, event: Pending, error: str) -> None:
        log.error("lineage: Marquez takes no %s of %s: %s", event.event_type, event.job[1], error)
        self.store.quarantine_event(event, error)

    def _wait_for_sink(self, error: str) -> None:
        if self._absences == 0:
            waiting = self.store.count_pending()
            log.warning("lineage: no Marquez (%s); %d events wait in the ledger", error, waiting)
        self.stop.wait(self._wait(self._absences))
        self._absences += 1

    def _wait(self, attempts: int) -> float:
        return min(_LONGEST_WAIT, self.first_wait * 2 ** min(attempts, 16)) * random.uniform(0.8, 1.0)
