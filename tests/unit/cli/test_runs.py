"""Waiting for runs: only new ones count, all must be over, and every wait ends."""

from typing import Any

import pytest

from cli.ingest_progress import IngestProgress
from cli.output import CommandError
from cli.runs import Run, follow_run, require_success, wait_for_new_runs
from shared.airflow import AirflowError, AirflowUnavailable
from tests.unit.cli.fakes import FakeAirflow


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


class Script:
    """`runs` says what is listed from each second on; an error there is raised."""

    def __init__(self, runs: dict[float, Any]) -> None:
        self.runs, self.clock, self.said = runs, Clock(), []

    def list_runs(self) -> list[dict[str, Any]]:
        found = self.runs[max(second for second in self.runs if second <= self.clock.now)]
        if isinstance(found, Exception):
            raise found
        return found

    def follow(self, describe: Any = lambda: "at work", timeout: float | None = None) -> Run | None:
        return follow_run(
            "mine",
            self.list_runs,
            describe,
            timeout=timeout,
            appear_within=60,
            say=self.said.append,
            sleep=self.clock.sleep,
            clock=self.clock,
        )


def test_a_run_is_followed_to_its_end_however_long_that_takes() -> None:
    script = Script({0: [raw("mine", "running")], 5000: [raw("mine", "failed")]})
    run = script.follow()
    assert run is not None and run.state == "failed"
    assert any("at work" in text for text in script.said)


def test_a_run_that_waits_for_another_is_waited_for_and_one_that_never_begins_is_not() -> None:
    queued = [raw("mine", "queued"), raw("other", "running")]
    run = Script({0: queued, 1000: [raw("mine", "success")]}).follow()
    assert run is not None and run.state == "success"
    assert Script({0: queued, 1000: [raw("mine", "queued")]}).follow() is None
    assert Script({0: []}).follow() is None


def test_airflow_may_be_away_for_a_while_and_progress_may_fail() -> None:
    def fail() -> str:
        raise AirflowError("404")

    away = AirflowUnavailable("Airflow can't be reached.")
    run = Script({0: [raw("mine", "running")], 10: away, 100: [raw("mine", "success")]}).follow(fail)
    assert run is not None and run.state == "success"
    with pytest.raises(CommandError, match="run mine goes on"):
        Script({0: [raw("mine", "running")], 10: away}).follow()


def test_a_time_limit_ends_the_watching_alone() -> None:
    with pytest.raises(CommandError, match=r"after 30 s \(at work\); it goes on"):
        Script({0: [raw("mine", "running")]}).follow(timeout=30)


class IngestRun(FakeAirflow):
    """A run of two batches from folders, of 20 documents and 1."""

    def __init__(self, states: dict[str, list[str]]) -> None:
        super().__init__()
        self.states = states
        self.results = {"folder.batches": [{"documents": 20}, {"documents": 1}]}

    def list_task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return [
            {"task_id": task_id, "state": state, "map_index": index if len(states) > 1 else -1}
            for task_id, states in self.states.items()
            for index, state in enumerate(states)
        ]


def test_progress_of_an_ingest_run_counts_documents_done_and_to_do() -> None:
    run = IngestRun({"plan": ["running"], "folder.batches": ["none"], "git.batches": ["none"]})
    now = iter([10.0, 40.0])
    progress = IngestProgress(run, "mine", clock=lambda: next(now))
    assert progress.describe() == "listing the sources"
    run.states |= {"plan": ["success"], "git.batches": ["skipped"], "folder.batches": ["running"]}
    assert progress.describe() == "making batches"
    run.states |= {
        "folder.batches": ["success"],
        "folder.extract": ["success", "success"],
        "folder.load": ["running", "none"],
    }
    assert progress.describe() == "0 of 21 documents written (21 read)"
    run.states["folder.load"] = ["running", "success"]
    assert progress.describe() == "1 of 21 documents written (21 read)"
    run.states["folder.load"] = ["success", "success"]
    assert progress.describe() == "21 of 21 documents written (21 read)"


def test_progress_says_what_is_left_at_the_pace_so_far() -> None:
    run = IngestRun(
        {"plan": ["success"], "folder.batches": ["success"], "folder.load": ["success", "none", "none"]}
    )
    run.results["folder.batches"] = [{"documents": 10}, {"documents": 10}, {"documents": 10}]
    now = iter([10.0, 40.0])
    progress = IngestProgress(run, "mine", clock=lambda: next(now))
    assert progress.describe() == "10 of 30 documents written (0 read)"
    run.states["folder.load"] = ["success", "success", "none"]
    assert progress.describe() == "20 of 30 documents written (0 read), 30 s left"


def test_progress_of_a_run_with_nothing_to_read_says_so() -> None:
    run = IngestRun({"plan": ["success"], "folder.batches": ["skipped"], "commit": ["running"]})
    assert IngestProgress(run, "mine").describe() == "no document to read"
