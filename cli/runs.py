"""Dag runs as a client sees them: read, compare, wait for the ones an event caused.

It knows no HTTP; whoever waits hands in how to list runs.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.output import CommandError, Progress
from shared.airflow import AirflowError, AirflowUnavailable

POLL_SECONDS = 0.5
PROGRESS_SECONDS = 2.0
"""How often a run that is followed is asked how far it is."""
AWAY_SECONDS = 120.0
"""Airflow may be away this long, as for a restart, before whoever follows a run gives up."""
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


def read_run_ids(raw: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The ids of Dag runs as Airflow's REST API gives them."""
    return frozenset(read_run(one).run_id for one in raw)


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


def follow_run(
    run_id: str,
    list_runs: ListRuns,
    describe: Callable[[], str],
    *,
    timeout: float | None,
    appear_within: float,
    say: Progress,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Run | None:
    """The run once it is over, however long that takes; `describe` tells how far it is while it runs.

    None where it has not begun after `appear_within` seconds in which no other run had the turn. Raises CommandError
    after `timeout` seconds, and where Airflow stays away.
    """
    started = waiting_since = seen = clock()
    text, described = "waiting for the run", float("-inf")
    while True:
        now = clock()
        try:
            runs = {run.run_id: run for run in map(read_run, list_runs())}
            run = runs.get(run_id)
            if run is not None and run.is_over:
                return run
            if run is not None and run.state == "running" and now - described >= PROGRESS_SECONDS:
                text, described = _describe_safely(describe) or text, now
            seen = now
        except AirflowUnavailable as error:
            if now - seen >= AWAY_SECONDS:
                raise CommandError(f"{error} The run {run_id} goes on without this command.") from error
            say(f"Airflow does not answer, waiting for it · {now - started:.0f} s")
        else:
            if run is None or run.state != "running":
                others = [other for other in runs.values() if other.state == "running"]
                waiting_since = now if others else waiting_since
                text = "waiting for the run before it" if others else "waiting for the run"
                if now - waiting_since >= appear_within:
                    return None
            say(f"{text} · {now - started:.0f} s")
        if timeout is not None and now - started >= timeout:
            raise CommandError(f"Not done after {timeout:.0f} s ({text}); it goes on without this command.")
        sleep(POLL_SECONDS)


def _describe_safely(describe: Callable[[], str]) -> str:
    """What is only for show ends no wait, as when a task was cleared and its answer is gone."""
    try:
        return describe()
    except AirflowUnavailable:
        raise
    except AirflowError:
        return ""


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
