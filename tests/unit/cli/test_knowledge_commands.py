"""`ghostwriter knowledge …` on a system in memory: status, sync and what it waits for, removals, clearings."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from shared import contracts
from tests.unit.cli.conftest import Command
from tests.unit.cli.fakes import FakeSystem


def test_knowledge_status(command: Command) -> None:
    assert command.json("knowledge", "status")["documents"] == 12  # type: ignore[index]
    assert command("knowledge", "status") == 0
    assert "guides" in command.out and "can't be used" not in command.out
    assert "from run run-0 at 23 Nov 2026, 00:00:00 UTC" in command.out
    assert "Last ingestion: run run-1, success, at 24 Nov 2026, 06:00:00 UTC" in command.out


def test_knowledge_status_and_sync_name_the_files_that_cannot_be_used(
    command: Command, system: FakeSystem
) -> None:
    uri = f"knowledge://notes/[bold]:smile:{'x' * 80}.txt"
    problem = {"uri": uri, "message": "it is not UTF-8 (byte 0): save it as UTF-8"}
    system.serving.problems = [problem]
    assert command.json("knowledge", "status")["problems"] == [problem]  # type: ignore[index]
    for subcommand in ("status", "sync"):
        assert command("knowledge", subcommand) == 0
        assert "1 file can't be used" in command.out
        shown = "".join(command.out.split())
        assert "[bold]:smile:" in shown and shown.count("x") >= 80
        assert "save" in shown and "UTF-8" in shown


def test_knowledge_sync_waits_and_says_what_changed(command: Command, system: FakeSystem) -> None:
    assert command.json("knowledge", "sync")["changed"] == []  # type: ignore[index]
    system.serving.documents["notes"] = 2
    answer = command.json("knowledge", "sync")
    assert answer["changed"] == [{"source": "notes", "documents": [0, 2], "chunks": [0, 6]}]  # type: ignore[index]
    assert [run["state"] for run in answer["runs"]] == ["success"]  # type: ignore[index]


def test_knowledge_sync_of_a_failed_run_is_no_success(command: Command, system: FakeSystem) -> None:
    system.ingest.end_state = "failed"
    assert command("knowledge", "sync") == 1
    assert f"{contracts.INGEST_DAG} failed in prepare: the disk is full. See " in command.err


def test_knowledge_sync_without_a_run_says_so(command: Command, system: FakeSystem) -> None:
    system.ingest.wakes = ()
    assert command("knowledge", "sync", "--timeout", "1") == 1
    assert "started no run" in command.err


def test_knowledge_sync_no_wait_asks_and_returns(command: Command, system: FakeSystem) -> None:
    system.ingest.wakes = ()
    answer = command.json("knowledge", "sync", "--no-wait")
    assert answer == {"run": "never begun"}


def test_knowledge_sync_that_is_stopped_says_that_the_run_goes_on(
    command: Command, system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_ctrl_c(dag_id: str, run_id: str) -> list[dict[str, object]]:
        raise KeyboardInterrupt

    monkeypatch.setattr(system.ingest, "list_task_instances", press_ctrl_c)
    system.ingest.end_state = "running"
    assert command("knowledge", "sync") == 130
    assert "the run goes on" in command.err and "/runs/run-0" in command.err


GONE = {
    "uri": "knowledge://guides",
    "message": "9 of 12 documents of `guides` are gone",
    "digest": "a" * 64,
}


def test_removals_wait_until_they_are_accepted_as_they_were_shown(
    command: Command, system: FakeSystem
) -> None:
    system.serving.removals = [GONE]
    for subcommand in ("status", "sync"):
        assert command("knowledge", subcommand) == 0
        assert "9 of 12 documents" in command.out and "--accept-removals" in command.out
        assert "can't be used" not in command.out
    assert system.serving.requests[-2][2] == {"accept_removals": []}
    assert command("knowledge", "sync", "--accept-removals") == 0
    assert "9 of 12 documents" in command.out.partition("Version")[0], "what was accepted is named"
    bodies = [body for _, path, body in system.serving.requests if path.endswith("/sync")]
    assert bodies[-1] == {"accept_removals": ["a" * 64]}


def test_accepting_removals_that_were_never_shown_is_no_success(command: Command, system: FakeSystem) -> None:
    answers = iter([[], [GONE]])
    describe = system.serving.describe_knowledge

    def describe_then_lose() -> dict[str, object]:
        system.serving.removals = next(answers)
        return describe()

    system.serving.describe_knowledge = describe_then_lose  # type: ignore[method-assign]
    assert command("knowledge", "sync", "--accept-removals") == 1
    assert "other removals" in command.err


def test_knowledge_clear_asks_first_and_leaves_its_dag_paused(
    command: Command, system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert command("knowledge", "clear") != 0
    assert system.ingest.calls == []
    assert command("knowledge", "clear", "--yes") == 0
    assert [call[:2] for call in system.ingest.calls] == [
        ("unpause", contracts.CLEAR_DAG),
        ("trigger", contracts.CLEAR_DAG),
        ("withdraw", contracts.CLEAR_DAG),
        ("pause", contracts.CLEAR_DAG),
    ]


def test_a_knowledge_clear_that_times_out_leaves_nothing_that_could_clear_later(
    command: Command, system: FakeSystem
) -> None:
    system.ingest.end_state = "queued"
    started = datetime.now(UTC)
    assert command("knowledge", "clear", "--yes", "--timeout", "1") == 1
    assert "Not cleared after 1 s" in command.err and "goes on" not in command.err
    (run,) = system.ingest.runs[contracts.CLEAR_DAG]
    assert run["state"] == "failed"  # withdrawn, before anyone unpauses the Dag again
    (conf,) = [call[2] for call in system.ingest.calls if call[0] == "trigger"]
    assert conf[contracts.CLEAR_VERSION] == 1
    limit = datetime.fromisoformat(conf[contracts.CLEAR_BEFORE])
    assert timedelta(0) < limit - started < timedelta(seconds=60)


def test_a_knowledge_clear_that_is_stopped_is_withdrawn(
    command: Command, system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(dag_id: str, conf: object = None) -> str:
        run_id = trigger(dag_id, conf)  # type: ignore[arg-type]
        monkeypatch.setattr(system.ingest, "list_dag_runs", interrupt)
        return run_id

    def interrupt(dag_id: str, limit: int = 100) -> list[dict[str, object]]:
        raise KeyboardInterrupt

    trigger, system.ingest.end_state = system.ingest.trigger, "queued"
    monkeypatch.setattr(system.ingest, "trigger", stop)
    assert command("knowledge", "clear", "--yes") != 0
    assert [run["state"] for run in system.ingest.runs[contracts.CLEAR_DAG]] == ["failed"]
    assert system.ingest.calls[-1] == ("pause", contracts.CLEAR_DAG)
