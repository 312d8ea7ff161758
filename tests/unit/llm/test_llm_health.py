"""Alive and ready are two things: what each says, and that neither asks for a key."""

import time

import pytest

from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.health import find_disk_problem
from shared import contracts

CHAT = {"model": contracts.LOCAL_CHAT_MODEL, "messages": [{"role": "user", "content": "one two"}]}


def wait_until_ready(server):
    deadline = time.monotonic() + 20
    while server.client.get("/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return server


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_neither_asks_for_a_key(server, path):
    answer = wait_until_ready(server).client.get(path, headers={"Authorization": ""})
    assert answer.status_code == 200


def test_while_the_models_load_the_server_lives_and_is_not_ready(start):
    server = start(FakeChatEngine(ready=False))
    answer = server.client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "loading"})
    answer = server.client.get("/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["the models are loading"])
    answer = server.client.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")


def test_it_is_said_why_loading_failed(start):
    server = start(FakeChatEngine(failure="OSError: no such weights"))
    assert server.client.get("/health").json() == {"status": "failed", "reason": "OSError: no such weights"}
    answer = server.client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["a model could not be loaded: OSError: no such weights"]


def test_ready_tells_how_many_jobs_there_are(server):
    body = wait_until_ready(server).client.get("/ready").json()
    assert body == {"status": "ready", "reasons": [], "fine_tuning": {}}


def test_a_state_folder_that_takes_no_file_is_a_reason(start, tmp_path):
    server = wait_until_ready(start(state=tmp_path / "state"))
    (tmp_path / "state").rename(tmp_path / "away")
    (tmp_path / "state").write_text("a file is in its place")
    answer = server.client.get("/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
    assert "takes no file" in answer.json()["reasons"][0]


def test_a_folder_that_can_be_written_is_no_problem_and_stays_empty(tmp_path):
    assert find_disk_problem(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
