"""Waiting for runs: only new ones count, all must be over, and every wait ends."""

from typing import Any

import pytest

from cli.output import CommandError
from cli.runs import Run, require_success, wait_for_new_runs


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def raw(run_id: str, state: str) -> dict[str, Any]:
    return {"dag_id": "d", "dag_run_id": run_id, "state": state, "start_date": None, "end_date": None}


def wait(script: dict[float, list[dict[str, Any]]], **limits: float) -> list[Run]:
    """`script` says what is listed from each second on."""
    clock = Clock()

    def list_runs() -> list[dict[str, Any]]:
        return script[max(second for second in script if second <= clock.now)]

    return wait_for_new_runs(
        list_runs,
        frozenset({"old"}),
        timeout=limits.get("timeout", 60),
        appear_within=limits.get("appear_within", 10),
        say=lambda _text: None,
        sleep=clock.sleep,
        clock=clock,
    )


def test_waits_for_all_new_runs_and_for_one_that_comes_a_little_later() -> None:
    old = raw("old", "running")
    runs = wait(
        {
            0: [old],
            3: [old, raw("a", "running")],
            6: [old, raw("a", "success")],
            7: [old, raw("a", "success"), raw("b", "queued")],
            20: [old, raw("a", "success"), raw("b", "failed")],
        }
    )
    assert [(run.run_id, run.state) for run in runs] == [("a", "success"), ("b", "failed")]


def test_no_run_in_time_is_an_empty_answer() -> None:
    assert wait({0: [raw("old", "running")]}) == []


def test_a_run_that_does_not_end_is_an_error_that_names_it() -> None:
    with pytest.raises(CommandError, match=r"60 s .*d running"):
        wait({0: [raw("a", "running")]})


def test_a_failed_run_is_named_with_its_page() -> None:
    with pytest.raises(CommandError, match=r"in prepare: no key\..*http://air/dags/d/runs/a"):
        require_success([Run("d", "a", "failed", None, None)], "http://air/", lambda *_: "prepare: no key")
