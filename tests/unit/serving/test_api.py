import json

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from deployments.serving.api import NOTE_HEADER, create_api
from deployments.serving.gate import API_BYTES, LOGIN_BYTES
from shared import contracts
from shared.ledger.models import Feedback
from shared.llm.port import LlmError
from tests.fake_desk import PASSWORD, FakeWorld, add_model, add_problem, make_world


@pytest.fixture
def client(world: FakeWorld) -> TestClient:
    client = TestClient(create_api(world.desk))
    client.auth = ("admin", PASSWORD)
    return client


def test_health_needs_no_password_and_names_dependencies(client: TestClient) -> None:
    client.auth = None
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "dependencies": {"nowhere": "unreachable"}}


@pytest.mark.parametrize(
    "auth", [None, ("admin", "wrong"), ("root", PASSWORD), ("admin", ""), ("ädmin", "ö")]
)
@pytest.mark.parametrize("path", ["/api/posts", "/api/knowledge", "/api/lineage", "/api/posts/x/audit"])
def test_without_the_password_nothing_is_told(
    client: TestClient, path: str, auth: tuple[str, str] | None
) -> None:
    client.auth = auth
    answer = client.get(path)
    assert answer.status_code == 401
    assert "Basic" in answer.headers["WWW-Authenticate"]
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("auth", [None, ("admin", "wrong")])
def test_nothing_of_a_body_is_read_before_the_password(
    client: TestClient, auth: tuple[str, str] | None
) -> None:
    client.auth = auth
    assert client.post("/api/posts", content=b"no JSON").status_code == 401
    assert (
        client.post("/api/posts", headers={"Content-Length": str(60 << 20)}, content=b"{").status_code == 401
    )
    assert client.post("/api/knowledge/sync", content=b"x" * (API_BYTES + 1)).status_code == 401


def test_a_body_that_is_too_long_is_refused(client: TestClient) -> None:
    assert client.post("/login", content=b"x" * (LOGIN_BYTES + 1)).status_code == 413
    answer = client.post("/api/posts", json={"topic": "x" * API_BYTES})
    assert answer.status_code == 413
    assert answer.json()["error"]["message"]


def test_write_answers_exactly_the_agreed_fields(world: FakeWorld, client: TestClient) -> None:
    add_model(world, 1, "champion")
    answer = client.post("/api/posts", json={"topic": "asset event"})
    assert answer.status_code == 200
    post = answer.json()
    assert list(post) == ["post_id", "text", "model", "prompt_version", "sources", "seconds"]
    assert post["model"] == {"name": "ghostwriter", "version": "1", "alias": "champion"}
    assert set(post["sources"][0]) == {"uri", "title", "chunk_id", "score"}
    assert NOTE_HEADER not in answer.headers


def test_note_travels_in_a_header(client: TestClient) -> None:
    answer = client.post("/api/posts", json={"topic": "asset event", "model": "champion"})
    assert "no champion" in answer.headers[NOTE_HEADER]


def test_everyone_is_told_of_a_champion_that_the_provider_has_lost(
    world: FakeWorld, client: TestClient
) -> None:
    world.registry.register(model_id="ft:“lost”", run_id="r", training_set="t", job_id="j")
    world.registry.set_alias("champion", "1")
    answer = client.post("/api/posts", json={"topic": "asset event"})
    assert answer.json()["model"]["version"] is None
    assert "doesn't know version 1" in answer.headers[NOTE_HEADER]
    assert "base model" in client.get("/health").json()["notes"][0]
    streamed = client.post("/api/posts?stream=true", json={"topic": "asset event"}).text.splitlines()
    assert "doesn't know version 1" in json.loads(streamed[0])["note"]
    world.llm.answers["ft:“lost”"] = "Field note: found."
    client.post("/api/posts", json={"topic": "asset event"})
    assert "notes" not in client.get("/health").json()


def test_write_can_stream(client: TestClient) -> None:
    answer = client.post("/api/posts?stream=true", json={"topic": "asset event", "model": "base"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0]["type"] == "sources"
    assert lines[-1]["type"] == "post"
    pieces = "".join(line["text"] for line in lines if line["type"] == "piece")
    assert pieces == lines[-1]["text"]


def test_stream_that_breaks_ends_with_an_error(
    world: FakeWorld, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> object:
        yield "Field"
        raise LlmError("gone")

    monkeypatch.setattr(world.llm, "stream_chat", fail)
    answer = client.post("/api/posts?stream=true", json={"topic": "asset event"})
    assert json.loads(answer.text.splitlines()[-1])["type"] == "error"
    assert client.get("/api/posts").json() == []


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"topic": " "}, 400, "empty"),
        ({"topic": "x" * 400}, 400, "characters"),
        ({"topic": "assets", "model": "nobody"}, 400, "champion"),
        ({"model": "base"}, 422, "topic"),
        ({"topic": "assets", "temperature": 2}, 422, "temperature"),
    ],
)
@pytest.mark.parametrize("query", ["", "?stream=true"])
def test_bad_requests_say_what_is_wrong(
    client: TestClient, body: dict[str, str], status: int, word: str, query: str
) -> None:
    answer = client.post(f"/api/posts{query}", json=body)
    assert answer.status_code == status
    assert word in answer.json()["error"]["message"]


def test_empty_knowledge_base_is_a_conflict(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = make_world(tmp_path_factory.mktemp("empty"), documents={})
    client = TestClient(create_api(world.desk))
    answer = client.post("/api/posts", json={"topic": "assets"}, auth=("admin", PASSWORD))
    assert answer.status_code == 409
    assert "empty" in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "knowledge_empty"


@pytest.mark.parametrize("query", ["", "?stream=true"])
def test_a_topic_that_nothing_answers_is_a_conflict_that_can_be_overruled(
    world: FakeWorld, client: TestClient, query: str
) -> None:
    settings = world.voice_file.with_name("retrieval.toml")
    settings.write_text("[rerank]\nleast_relevance = 0.5\n")
    body = {"topic": "chocolate cake", "model": "base"}
    answer = client.post(f"/api/posts{query}", json=body)
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "nothing_answers" and "What comes nearest is" in error["message"]
    answer = client.post(f"/api/posts{query}", json={**body, "allow_unsupported": True})
    assert answer.status_code == 200
    note = json.loads(answer.text.splitlines()[0])["note"] if query else answer.headers[NOTE_HEADER]
    assert "Nothing in the knowledge answers" in note


def test_list_audit_and_feedback_of_a_post(world: FakeWorld, client: TestClient) -> None:
    post_id = client.post("/api/posts", json={"topic": "asset event", "model": "base"}).json()["post_id"]
    assert client.post(f"/api/posts/{post_id}/feedback", json={"rating": -1}).status_code == 201
    assert client.post(f"/api/posts/{post_id}/feedback", json={"rating": 1}).status_code == 201
    (listed,) = client.get("/api/posts").json()
    assert (listed["post_id"], listed["rating"]) == (post_id, 1)  # the last one of a person counts
    audit = client.get(f"/api/posts/{post_id}/audit").json()
    assert {"post_id", "model", "sources"} <= audit.keys()
    assert {"version", "training_set", "job_id", "run_id"} <= audit["model"].keys()
    assert {"uri", "content_hash", "ingest_run"} <= audit["sources"][0].keys()
    with world.sessions() as session:
        ratings = session.scalars(select(Feedback)).all()
    assert [(item.rating, item.author) for item in ratings] == [(-1, "admin"), (1, "admin")]


def test_feedback_must_be_a_thumb_on_a_post_there_is(client: TestClient) -> None:
    assert client.post("/api/posts/none/feedback", json={"rating": 1}).status_code == 404
    assert client.post("/api/posts/none/feedback", json={"rating": 5}).status_code == 422
    assert client.get("/api/posts/none/audit").status_code == 404
    assert "message" in client.get("/api/nothing").json()["error"]


def test_knowledge_counts_what_is_current(client: TestClient) -> None:
    state = client.get("/api/knowledge").json()
    assert (state["documents"], state["chunks"], state["version"]) == (3, 3, 1)
    assert state["last_change"]["run"] == "scheduled__1"
    assert state["last_ingest"] is None  # nobody has run yet
    assert state["sources"][0]["source"] == "guides"
    assert state["problems"] == []


def test_knowledge_names_the_files_that_cannot_be_used(world: FakeWorld, client: TestClient) -> None:
    add_problem(world, "knowledge://notes/b.txt", "it is binary: save it as plain text or Markdown")
    add_problem(world, "knowledge://notes/a.pdf", ".pdf is not read: use .md or .txt")
    assert client.get("/api/knowledge").json()["problems"] == [
        {"uri": "knowledge://notes/a.pdf", "message": ".pdf is not read: use .md or .txt"},
        {"uri": "knowledge://notes/b.txt", "message": "it is binary: save it as plain text or Markdown"},
    ]


def test_knowledge_tells_removals_that_wait_with_what_accepts_them(
    world: FakeWorld, client: TestClient
) -> None:
    message = "2 of 3 documents of `guides` are gone"
    add_problem(world, "knowledge://guides", message, "a" * 64)
    state = client.get("/api/knowledge").json()
    assert state["problems"] == [{"uri": "knowledge://guides", "message": message}]
    assert state["removals"] == [{"uri": "knowledge://guides", "message": message, "digest": "a" * 64}]


def test_sync_starts_one_run_over_all_sources(world: FakeWorld, client: TestClient) -> None:
    answer = client.post("/api/knowledge/sync")
    assert answer.status_code == 202
    assert answer.json() == {"run": world.airflow.runs[0]["dag_run_id"]}
    assert world.airflow.events == [(contracts.INGEST_DAG, {"asked_by": "admin"})]


def test_sync_hands_on_which_removals_were_accepted(world: FakeWorld, client: TestClient) -> None:
    digests = ["a" * 64, "b" * 64]
    assert client.post("/api/knowledge/sync", json={"accept_removals": digests}).status_code == 202
    assert world.airflow.events[0][1][contracts.ACCEPT_REMOVALS] == digests
    assert client.post("/api/knowledge/sync", json={"accept_removals": ["all"]}).status_code == 422
    assert len(world.airflow.events) == 1


def test_sync_takes_the_run_that_waits_for_its_turn(world: FakeWorld, client: TestClient) -> None:
    """It has not looked at any file yet, so a second one would find nothing to do."""
    world.airflow.runs = [
        {"dag_run_id": "waits", "state": "queued"},
        {"dag_run_id": "looks already", "state": "running"},
    ]
    assert client.post("/api/knowledge/sync").json()["run"] == "waits"
    assert world.airflow.events == []
    accepting = client.post("/api/knowledge/sync", json={"accept_removals": ["a" * 64]}).json()
    assert accepting["run"] != "waits", "that run does not know what was accepted"


def test_sync_says_when_ingest_is_down(world: FakeWorld, client: TestClient) -> None:
    world.airflow.down = True
    answer = client.post("/api/knowledge/sync")
    assert answer.status_code == 503
    assert "ingest can't be reached" in answer.json()["error"]["message"]
