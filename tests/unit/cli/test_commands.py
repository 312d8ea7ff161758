"""Every command through its public entry, on a system in memory: exact JSON keys, exit codes, one-line errors."""

import json
import re

import httpx
import pytest

from cli.main import run
from shared import contracts
from tests.unit.cli.conftest import Command
from tests.unit.cli.fakes import POST, POST_ID, FakeSystem


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


def test_every_time_that_is_shown_names_its_zone(command: Command, system: FakeSystem) -> None:
    system.crown()
    system.training.add_run(contracts.PREPARE_DAG, "success")
    for words in (("knowledge", "status"), ("models", "list"), ("models", "show", "1"), ("train", "status")):
        assert command(*words) == 0
        shown = " ".join(command.out.split())
        times = re.findall(r"\d\d:\d\d(?::\d\d)?(?: UTC)?", shown)
        assert times and all(time.endswith(" UTC") for time in times), words


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
