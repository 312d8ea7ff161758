"""In which order events go out, and which had better not go at all.

It knows no sink. Marquez turns a finished run back to running when an earlier event comes late, and draws a job with
the datasets of the run it heard of last: so each job's events go out one after the other, oldest first.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from deployments.lineage.cleaning import TERMINAL


@dataclass(frozen=True)
class Pending:
    """A stored event that has not been delivered."""

    id: int
    run_id: str
    job: tuple[str, str]
    event_type: str
    event_time: datetime
    payload: dict[str, Any]
    attempts: int = 0


def order_by_job(events: Iterable[Pending]) -> dict[tuple[str, str], list[Pending]]:
    """Per job, by time; a run's end goes last whatever the clocks say."""
    jobs: dict[tuple[str, str], list[Pending]] = {}
    events = list(events)
    latest: dict[str, datetime] = {}
    for event in events:
        latest[event.run_id] = max(event.event_time, latest.get(event.run_id, event.event_time))
    for event in events:
        jobs.setdefault(event.job, []).append(event)

    def key(event: Pending) -> tuple[datetime, bool, int]:
        end = event.event_type in TERMINAL
        return (latest[event.run_id] if end else event.event_time, end, event.id)

    return {job: sorted(of_job, key=key) for job, of_job in jobs.items()}


def is_late(event: Pending, ended_runs: Collection[str]) -> bool:
    """Whether the run's end has been delivered, so that this event would only turn it back."""
    return event.event_type not in TERMINAL and event.run_id in ended_runs
