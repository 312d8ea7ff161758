import json

import httpx
import pytest

from shared.airflow import AirflowApi, AirflowError


class FakeAirflow:
    """Answers as Airflow 3.3 does; `assets` maps URI to id."""

    def __init__(self) -> None:
        self.assets: dict[str, int] = {}
        self.events: list[dict] = []
        self.valid = {"token-1"}
        self.tokens = 0
        self.failures = 0
        self.tasks: list[dict] = []
        self.log: list[dict] = []
        self.run_states: dict[str, str] = {}
        self.runs: list[dict] = []
        self.lost_answers = 0
        self.import_errors: list[dict] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.failures:
            self.failures -= 1
            return httpx.Response(503)
        if request.url.path == "/auth/token":
            if json.loads(request.content)["password"] != "right":
                return httpx.Response(401)
            self.tokens += 1
            self.valid.add(f"token-{self.tokens}")
            return httpx.Response(201, json={"access_token": f"token-{self.tokens}"})
        if request.headers["Authorization"].removeprefix("Bearer ") not in self.valid:
            return httpx.Response(401)
        if request.url.path == "/api/v2/assets":
            return self.answer_page(request, "assets", [{"id": i, "uri": u} for u, i in self.assets.items()])
        if request.url.path == "/api/v2/importErrors":
            return self.answer_page(request, "import_errors", self.import_errors)
        if request.url.path == "/api/v2/dags/d/dagRuns" and request.method == "POST":
            asked = json.loads(request.content)
            if any(run["dag_run_id"] == asked["dag_run_id"] for run in self.runs):
                return httpx.Response(409, text="there is such a run")
            self.runs.append(asked)
            if self.lost_answers:
                self.lost_answers -= 1
                return httpx.Response(502)
            return httpx.Response(200, json=asked)
        if request.url.path == "/api/v2/assets/events":
            self.events.append(json.loads(request.content))
            return httpx.Response(200, json={})
        if request.url.path.startswith("/api/v2/dags/d/dagRuns/"):
            run = request.url.path.rsplit("/", 1)[-1]
            if request.method == "PATCH":
                self.run_states[run] = json.loads(request.content)["state"]
            if run in self.run_states:
                return httpx.Response(200, json={"state": self.run_states[run]})
        if request.url.path.endswith("/taskInstances"):
            state = request.url.params.get("state")
            wanted = [task for task in self.tasks if state in (None, task["state"])]
            return self.answer_page(request, "task_instances", wanted)
        if request.url.path.endswith("/taskInstances/guides.prepare"):
            return httpx.Response(200, json=self.tasks[1])
        if request.url.path.endswith("/taskInstances/guides.prepare/logs/2"):
            return httpx.Response(200, json={"content": self.log})
        if request.url.path == "/api/v2/dags/d/dagRuns/r/taskInstances/prepare/xcomEntries/reason":
            return httpx.Response(200, json={"key": "reason", "value": "nothing is new"})
        return httpx.Response(404, text="no such page")

    def answer_page(self, request: httpx.Request, key: str, items: list[dict]) -> httpx.Response:
        """Never more than 100, whatever is asked for."""
        start = int(request.url.params.get("offset", 0))
        size = min(int(request.url.params.get("limit", 50)), 100)
        page = items[start : start + size]
        return httpx.Response(200, json={key: page, "total_entries": len(items)})


def connect(server: FakeAirflow, password: str = "right") -> AirflowApi:
    return AirflowApi(
        "http://airflow", "user", password, transport=httpx.MockTransport(server), wait_seconds=0.01
    )


def test_an_event_goes_to_the_asset_of_exactly_that_uri() -> None:
    server = FakeAirflow()
    server.assets = {"ghostwriter://examples_old": 1, "ghostwriter://examples": 2}
    connect(server).post_asset_event("ghostwriter://examples", {"idempotency_key": "k"})
    assert server.events == [{"asset_id": 2, "extra": {"idempotency_key": "k"}}]


def test_an_unknown_asset_is_said_after_the_wait() -> None:
    with pytest.raises(AirflowError, match="knows no asset"):
        connect(FakeAirflow()).post_asset_event("ghostwriter://examples", {}, wait=0.05)


def test_an_expired_token_is_renewed_once() -> None:
    server = FakeAirflow()
    server.assets = {"a://b": 1}
    api = connect(server)
    assert api.find_asset("a://b") == 1
    server.valid.clear()
    assert api.find_asset("a://b") == 1
    assert server.tokens == 2


def test_a_wrong_password_names_the_user_and_is_not_tried_again() -> None:
    with pytest.raises(AirflowError, match="refused the password of 'user'"):
        connect(FakeAirflow(), "wrong").list_dag_runs("x")


def test_a_server_that_is_away_for_a_moment_is_waited_for_and_one_that_stays_away_is_not() -> None:
    server = FakeAirflow()
    server.assets, server.failures = {"a://b": 1}, 2
    assert connect(server).find_asset("a://b") == 1
    server.failures = 100
    with pytest.raises(AirflowError, match="503"):
        connect(server).find_asset("a://b")


def test_other_refusals_carry_what_the_server_said() -> None:
    with pytest.raises(AirflowError, match=r"404.*no such page"):
        connect(FakeAirflow()).list_dag_runs("missing")


def test_a_failed_run_is_explained_by_the_first_failed_tasks_last_exception() -> None:
    server = FakeAirflow()
    server.tasks = [
        {
            "task_id": "commit",
            "map_index": -1,
            "try_number": 1,
            "state": "failed",
            "end_date": "2026-11-23T02",
        },
        {
            "task_id": "guides.prepare",
            "map_index": 3,
            "try_number": 2,
            "state": "failed",
            "end_date": "2026-11-23T01",
        },
        {
            "task_id": "plan",
            "map_index": -1,
            "try_number": 1,
            "state": "success",
            "end_date": "2026-11-23T00",
        },
    ]
    api = connect(server)
    assert api.explain_failure("d", "r") == "guides.prepare"
    server.log = [
        {"event": "::group::Log message source details"},
        {"event": "Task failed", "error_detail": [{"exc_type": "E", "exc_value": "the first try's"}]},
        {"event": "Task failed", "error_detail": [{"exc_type": "E", "exc_value": "the key is wrong"}]},
        {"event": "ended"},
    ]
    assert api.explain_failure("d", "r") == "guides.prepare: the key is wrong"
    server.log.append({"event": "bad_format: train/a.md:1: no front matter", "level": "error"})
    assert api.list_log_errors("d", "r", "guides.prepare") == ["bad_format: train/a.md:1: no front matter"]
    server.tasks = server.tasks[2:]
    assert api.explain_failure("d", "r") == ""


def test_what_a_task_left_is_read() -> None:
    api = connect(FakeAirflow())
    assert api.read_xcom("d", "r", "prepare", "reason") == "nothing is new"
    with pytest.raises(AirflowError, match="404"):
        api.read_xcom("d", "r", "prepare", "nothing")


def test_only_a_run_that_waits_is_withdrawn() -> None:
    server = FakeAirflow()
    server.run_states = {"waits": "queued", "works": "running", "done": "success"}
    airflow = connect(server)
    for run in ("waits", "works", "done"):
        airflow.withdraw("d", run)
    assert server.run_states == {"waits": "failed", "works": "running", "done": "success"}


def make_task(number: int, state: str) -> dict:
    end = f"2026-11-23T{number:05}"
    return {"task_id": f"t{number}", "map_index": -1, "try_number": 1, "state": state, "end_date": end}


def test_a_failure_behind_many_tasks_is_explained_by_the_first_of_all_failed_ones() -> None:
    server = FakeAirflow()
    server.tasks = [make_task(number, "success") for number in range(1000, 1250)]
    server.tasks += [make_task(number, "failed") for number in range(130, 0, -1)]
    api = connect(server)
    assert api.explain_failure("d", "r") == "t1"
    assert len(api.list_task_instances("d", "r")) == 380


def test_every_list_is_read_to_its_end() -> None:
    server = FakeAirflow()
    server.assets = {f"ghostwriter://sources/{number}": number for number in range(250)}
    server.import_errors = [{"filename": str(number)} for number in range(120)]
    api = connect(server)
    assert api.find_asset("ghostwriter://sources/249") == 249
    assert len(api.list_import_errors()) == 120


def test_a_run_with_an_id_of_ours_is_started_once_though_the_first_answer_is_lost() -> None:
    server = FakeAirflow()
    server.lost_answers = 1
    assert connect(server).trigger("d", {"asked_by": "me"}, run_id="sync__1") == "sync__1"
    assert [run["dag_run_id"] for run in server.runs] == ["sync__1"]
