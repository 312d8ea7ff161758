"""The server's own settings, and what it does until its trainer is installed."""

from collections.abc import Callable

import pytest

from deployments.llm.settings import LlmSettings
from tests.unit.llm.conftest import Server
from tests.unit.llm.test_llm_fine_tuning import JOBS, create, wait_for, wait_for_event


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("GHOSTWRITER_LLM_BASE_MODEL", "llm_base_model"),
        ("GHOSTWRITER_LLM_CHAT_WEIGHTS", "llm_base_model"),
        ("GHOSTWRITER_LLM_EMBEDDING_MODEL", "llm_embedding_model"),
        ("GHOSTWRITER_LLM_EMBEDDING_WEIGHTS", "llm_embedding_model"),
    ],
)
def test_the_names_of_the_last_version_are_read_too(
    monkeypatch: pytest.MonkeyPatch, variable: str, field: str
) -> None:
    monkeypatch.setenv(variable, "/models/ours")
    assert getattr(LlmSettings(), field) == "/models/ours"


def test_the_new_name_outweighs_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GHOSTWRITER_LLM_CHAT_WEIGHTS", "old")
    monkeypatch.setenv("GHOSTWRITER_LLM_BASE_MODEL", "new")
    assert LlmSettings().llm_base_model == "new"
    assert LlmSettings(llm_base_model="given").llm_base_model == "given"


def test_a_job_waits_in_words_until_its_trainer_is_installed(start: Callable[..., Server]) -> None:
    obstacles = ["there is no trainer yet"]
    server = start(find_obstacle=lambda: obstacles[0] if obstacles else None)
    job = create(server)
    wait_for_event(server, job, "The job waits: there is no trainer yet")
    assert wait_for(server, job, "queued", "running")["status"] == "queued"
    obstacles.clear()
    create(server)  # the runner looks up
    assert wait_for(server, job, "succeeded", "failed")["status"] == "succeeded"
    messages = [event["message"] for event in server.client.get(f"{JOBS}/{job['id']}/events").json()["data"]]
    assert sum(message.startswith("The job waits") for message in messages) == 1
