"""Every command through its public entry, on a system in memory: exact JSON keys, exit codes, one-line errors."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from cli.main import run
from shared import contracts
from tests.unit.cli.fakes import POST, POST_ID, FakeSystem


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    return FakeSystem(tmp_path)


class Command:
    """Runs `ghostwriter …` and holds what it said."""

    def __init__(self, system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
        self._system, self._capsys = system, capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = run(arguments, connection=self._system.connection)
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments: str) -> object:
        assert self(*arguments, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def command(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(system, capsys)


def test_write_prints_exactly_the_promised_keys(command: Command, system: FakeSystem) -> None:
    post = command.json("write", "Assets", "--model", "2")
    assert post == {
        "post_id": POST_ID,
        "text": POST["text"],
        "model": {"name": "ghostwriter", "version": "2", "alias": "champion"},
        "prompt_version": "abc",
        "sources": [
            {"uri": "knowledge://guides/assets.md", "title": "Assets", "chunk_id": "c1", "score": 0.5}
        ],
        "seconds": 1.25,
    }
    assert system.serving.requests[-1] == ("POST", "/api/posts", {"topic": "Assets", "model": "2"})


def test_write_asks_for_the_champion_and_shows_text_that_looks_like_markup(
    command: Command, system: FakeSystem
) -> None:
    assert command("write", "Assets") == 0
    assert system.serving.requests[-1][2]["model"] == "champion"
    assert "[bold] brackets survive." in command.out
    assert "knowledge://guides/assets.md" in command.out


def test_write_says_when_it_is_not_quite_what_was_asked_for(command: Command, system: FakeSystem) -> None:
    told = {"X-Ghostwriter-Note": "The provider doesn't know the champion."}
    system.serving.answers["POST", "/api/posts"] = httpx.Response(200, json=POST, headers=told)
    for arguments in (["write", "Assets"], ["write", "Assets", "--json"]):
        assert command(*arguments) == 0
        assert "doesn't know the champion" in command.err
        assert "doesn't know the champion" not in command.out


def test_write_says_how_to_write_what_nothing_answers(command: Command, system: FakeSystem) -> None:
    error = {"message": "Nothing answers. What comes nearest is “Assets”.", "code": "nothing_answers"}
    system.serving.answers["POST", "/api/posts"] = httpx.Response(409, json={"error": error})
    assert command("write", "cake") == 1
    assert (
        command.err.splitlines()[-1]
        == "error: Nothing answers. What comes nearest is “Assets”. --anyway writes from that."
    )
    del system.serving.answers["POST", "/api/posts"]
    assert command("write", "cake", "--anyway") == 0
    asked = system.serving.requests[-1][2]
    assert asked == {"topic": "cake", "model": "champion", "allow_unsupported": True}


@pytest.mark.parametrize(
    "body", [{"error": {"message": "empty", "code": "knowledge_empty"}}, {"error": "x"}, []]
)
def test_another_conflict_offers_no_way_round(command: Command, system: FakeSystem, body: object) -> None:
    system.serving.answers["POST", "/api/posts"] = httpx.Response(409, json=body)
    assert command("write", "cake") == 1
    assert "--anyway" not in command.err


def test_audit_prints_exactly_the_promised_keys(command: Command) -> None:
    assert command.json("audit", "post", POST_ID) == {
        "post_id": POST_ID,
        "model": {"version": "2", "training_set": "t" * 64, "job_id": "ftjob-1", "run_id": "run-1"},
        "sources": [
            {
                "uri": "knowledge://guides/assets.md",
                "content_hash": "h" * 64,
                "ingest_run": "asset_triggered__1",
            }
        ],
    }


def test_audit_as_a_tree(command: Command) -> None:
    assert command("audit", "post", POST_ID) == 0
    for word in (POST_ID, "version 2", "ftjob-1", "run-1", "asset_triggered__1", "train/a.md", "a note"):
        assert word in command.out


def test_models_list_and_show(command: Command, system: FakeSystem) -> None:
    assert command.json("models", "list") == []
    system.crown()
    (model,) = command.json("models", "list")  # type: ignore[misc]
    assert set(model) == {"version", "aliases", "training_set", "scores", "created"}
    assert (model["aliases"], model["scores"]) == (["champion"], {"score": 0.75})
    shown = command.json("models", "show", "1")
    assert shown["job_id"] == "ftjob-1"  # type: ignore[index]
    assert command("models", "list") == 0
    assert "champion" in command.out


def test_models_show_of_a_version_that_is_not_there(command: Command) -> None:
    assert command("models", "show", "9") == 1
    assert command.out == ""
    assert command.err == "error: There is no version '9': `ghostwriter models list` shows which there are.\n"


def test_train_status_prints_exactly_the_promised_keys(command: Command, system: FakeSystem) -> None:
    system.training.add_run(contracts.PREPARE_DAG, "success")
    system.training.add_run(contracts.FINE_TUNE_DAG, "running")
    status = command.json("train", "status")
    assert set(status) == {"dag_runs", "champion", "challenger"}  # type: ignore[call-overload]
    assert [item["state"] for item in status["dag_runs"]] == ["running", "success"]  # type: ignore[call-overload]
    assert set(status["dag_runs"][0]) == {"dag_id", "run_id", "state", "start", "end"}  # type: ignore[call-overload]
    system.crown()
    assert command.json("train", "status")["champion"]["version"] == "1"  # type: ignore[index]
    assert command("train", "status") == 0
    assert "champion: version 1" in command.out


def test_train_start_lets_what_failed_be_tried_again(command: Command, system: FakeSystem) -> None:
    """The Dag releases failed and cancelled jobs before it tells of the examples; the event alone releases nothing."""
    answer = command.json("train", "start")
    assert system.training.calls == [("trigger", contracts.START_TRAINING_DAG)]
    (run,) = system.training.runs[contracts.START_TRAINING_DAG]
    assert answer == {"dag_id": contracts.START_TRAINING_DAG, "run_id": run["dag_run_id"]}


def test_train_start_says_why_nothing_is_due(
    command: Command, system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.train.NEXT_WITHIN", 0.0)
    system.training.wakes = (contracts.PREPARE_DAG,)
    system.training.end, system.training.reason = "nothing_due", "training set 1 has version 3 (job ftjob-1)"
    assert command("train", "start", "--wait") == 0
    assert "Nothing is due: training set 1 has version 3 (job ftjob-1)" in command.out


def test_train_start_does_not_take_a_late_dag_for_nothing_due(
    command: Command, system: FakeSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.train.NEXT_WITHIN", 0.0)
    system.training.wakes = (contracts.PREPARE_DAG,)
    assert command("train", "start", "--wait") == 0
    assert "Nothing is due" not in command.out
    assert "the next Dag has not started yet" in command.out


def test_train_start_says_why_nothing_was_trained(command: Command, system: FakeSystem) -> None:
    system.training.wakes = (contracts.PREPARE_DAG, contracts.FINE_TUNE_DAG)
    system.training.blocker = "over_budget"
    assert command("train", "start", "--wait") == 1
    assert "Nothing was trained (over_budget)" in command.err


def test_knowledge_status(command: Command) -> None:
    assert command.json("knowledge", "status")["documents"] == 12  # type: ignore[index]
    assert command("knowledge", "status") == 0
    assert "guides" in command.out and "can't be used" not in command.out
    assert "from run run-0 at 23 Nov 2026, 00:00:00 UTC" in command.out
    assert "Last ingestion: run run-1, success, at 24 Nov 2026, 06:00:00 UTC" in command.out


def test_every_time_that_is_shown_names_its_zone(command: Command, system: FakeSystem) -> None:
    system.crown()
    system.training.add_run(contracts.PREPARE_DAG, "success")
    for words in (("knowledge", "status"), ("models", "list"), ("models", "show", "1"), ("train", "status")):
        assert command(*words) == 0
        shown = " ".join(command.out.split())
        times = re.findall(r"\d\d:\d\d(?::\d\d)?(?: UTC)?", shown)
        assert times and all(time.endswith(" UTC") for time in times), words


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
    assert answer == {"run": "never begun", "assets": [contracts.source_asset("guides")]}


def test_knowledge_sync_waits_until_a_new_folder_is_known(command: Command, system: FakeSystem) -> None:
    system.serving.unknown_for = 2
    assert command("knowledge", "sync") == 0
    assert "\nAirflow does not know `outside` yet · " in command.err
    assert len(system.ingest.runs[contracts.INGEST_DAG]) == 1


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


def test_a_refusal_of_serving_is_one_line(command: Command, system: FakeSystem) -> None:
    message = {"error": {"message": "There is no model 'x'.\nChoose champion."}}
    system.serving.answers[("POST", "/api/posts")] = httpx.Response(400, json=message)
    assert command("write", "Assets", "--model", "x") == 1
    assert command.err.splitlines()[-1] == "error: There is no model 'x'. Choose champion."
    assert command.out == ""


def test_errors_are_json_on_stderr_where_json_is_asked_for(command: Command, system: FakeSystem) -> None:
    system.serving.answers[("GET", "/api/knowledge")] = httpx.Response(401, json={})
    assert command("knowledge", "status", "--json") == 1
    assert "password" in json.loads(command.err)["error"]
    assert command.out == ""


@pytest.mark.parametrize("arguments", [["write"], ["nonsense"], ["models", "show"], ["write", "a", "--nope"]])
def test_wrong_usage_is_one_line_and_no_success(command: Command, arguments: list[str]) -> None:
    assert command(*arguments) == 2
    assert command.out == ""
    assert len(command.err.splitlines()) == 1


def test_a_stack_that_is_down_is_named_with_what_to_do(
    system: FakeSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    system.connection.serving._http = httpx.Client(
        base_url="http://serving", transport=httpx.MockTransport(refuse)
    )
    assert run(["write", "Assets"], connection=system.connection) == 1
    assert "Serving at http://serving can't be reached: is the stack up? make up" in capsys.readouterr().err
