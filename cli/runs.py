"""Dag runs as a client sees them: read, compare, wait for the ones an event caused.

It knows no HTTP; whoever waits hands in how to list runs.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.output import CommandError, Progress

POLL_SECONDS = 0.5
SETTLE_SECONDS = 1.5
"""Events of one cause may still make a second run this long after the first one ended."""

ListRuns = Callable[[], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True)
class Run:
    """One Dag run; times are ISO 8601, or None."""

    dag_id: str
    run_id: str
    state: str
    start: str | None
    end: str | None

    @property
    def is_over(self) -> bool:
        return self.state in {"success", "failed"}


def read_run(raw: Mapping[str, Any]) -> Run:
    """A Dag run of Airflow's REST API."""
    return Run(
        dag_id=raw["dag_id"],
        run_id=raw["dag_run_id"],
        state=raw["state"],
        start=raw.get("start_date"),
        end=raw.get("end_date"),
    )


def wait_for_new_runs(
    list_runs: ListRuns,
    known: frozenset[str],
    *,
    timeout: float,
    appear_within: float,
    say: Progress,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[Run]:
    """The runs that weren't `known`, once all are over; empty where none appears within `appear_within` seconds.

    Raises CommandError at the time limit.
    """
    started = clock()
    over_since: float | None = None
    while True:
        new = [run for run in map(read_run, list_runs()) if run.run_id not in known]
        elapsed = clock() - started
        if not new and elapsed >= appear_within:
            return []
        if new and all(run.is_over for run in new):
            over_since = elapsed if over_since is None else over_since
            if elapsed - over_since >= SETTLE_SECONDS:
                return new
        else:
            over_since = None
            say(_describe(new, elapsed))
        if elapsed >= timeout:
            raise CommandError(
                f"Not done after {timeout:.0f} s ({_describe(new, elapsed)}); it goes on without this command."
            )
        sleep(POLL_SECONDS)


def require_success(runs: Iterable[Run], base_url: str, explain: Callable[[str, str], str]) -> None:
    """Raises CommandError with the first failed run, its cause as `explain(dag_id, run_id)` has it, and its page."""
    for run in runs:
        if run.state == "failed":
            cause = explain(run.dag_id, run.run_id).rstrip(".")
            raise CommandError(
                f"{run.dag_id} failed{f' in {cause}' if cause else ''}. "
                f"See {base_url.rstrip('/')}/dags/{run.dag_id}/runs/{run.run_id}"
            )


def _describe(runs: list[Run], elapsed: float) -> str:
    if not runs:
        return f"waiting for a run · {elapsed:.0f} s"
    states = ", ".join(f"{run.dag_id} {run.state}" for run in runs)
    return f"{states} · {elapsed:.0f} s"
