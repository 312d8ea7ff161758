"""A sink in memory that keeps runs as Marquez does: the event that comes last decides a run's state.

It knows no transport; tests make it fail.
"""

import threading
from collections import Counter
from typing import Any

from deployments.lineage.sinks.port import DeliveryFailedError, EventRefusedError, SinkAwayError


class FakeSink:
    """`failures` holds the errors that the next deliveries raise, one each; `away` makes all of them fail."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.failures: list[Exception] = []
        self.away = False
        self.ill = False
        self.failing_runs: set[str] = set()
        self.attempts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def deliver(self, event: dict[str, Any]) -> None:
        """Keep the event, or raise what the test has laid ready."""
        with self._lock:
            if self.away:
                raise SinkAwayError("connection refused")
            run = event.get("run") or {}
            if not run.get("runId") or not event.get("job") or not event.get("eventTime"):
                raise EventRefusedError("HTTP 422: run, job and eventTime must not be null")
            self.attempts[run["runId"]] += 1
            if self.failures:
                raise self.failures.pop(0)
            if self.ill or run["runId"] in self.failing_runs:
                raise DeliveryFailedError("HTTP 500: the database said no")
            self.events.append(event)

    def is_well(self) -> bool:
        """Neither away nor ill."""
        return not (self.away or self.ill)

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def run_states(self) -> dict[str, str]:
        """State by run id, as the last event left it."""
        return {event["run"]["runId"]: event["eventType"] for event in self.events}
