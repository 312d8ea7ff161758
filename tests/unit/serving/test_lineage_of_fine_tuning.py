"""From the event that a fine-tuning job emits to what the lineage page shows of it."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from deployments.lineage.cleaning import clean_line
from deployments.llm.fine_tuning.job import Job, JobFailure
from deployments.llm.fine_tuning.lineage import build_emitter
from deployments.serving.api import create_api
from shared.ledger.models import LineageEvent
from tests.fake_desk import PASSWORD, FakeWorld

RUN = "11111111-2222-4333-8444-555555555555"
JOB = Job(
    id="ftjob-0123456789abcdef",
    created_at=1,
    model="base",
    training_file="file-1",
    metadata={"ghostwriter_training_set": "set-1", "trained tokens": "a lie"},
)


def show(world: FakeWorld, spool: Path) -> dict[str, dict[str, str]]:
    """The page's details by node name, of all that was spooled, as the relay takes it in."""
    with world.sessions.begin() as session:
        for line in (spool / "llm" / "events.jsonl").read_bytes().splitlines():
            event = clean_line(line)
            session.add(
                LineageEvent(
                    digest=event.digest,
                    deployment="llm",
                    run_id=event.run_id,
                    job_namespace=event.job_namespace,
                    job_name=event.job_name,
                    event_type=event.event_type,
                    event_time=event.event_time,
                    payload=event.payload,
                )
            )
    graph = TestClient(create_api(world.desk)).get("/api/lineage", auth=("admin", PASSWORD)).json()
    return {node["name"]: node["details"] for node in graph["nodes"]}


def test_the_page_tells_a_jobs_id_its_tokens_and_its_model(world: FakeWorld, tmp_path: Path) -> None:
    emit = build_emitter(tmp_path)
    emit("START", RUN, JOB)
    model = "ft:base:notes:89abcdef"
    emit(
        "COMPLETE",
        RUN,
        JOB.model_copy(update={"status": "succeeded", "fine_tuned_model": model, "trained_tokens": 4711}),
    )
    nodes = show(world, tmp_path)
    shown = nodes["fine_tuning_job"]
    assert shown["state"] == "COMPLETE"
    assert shown["fine-tuning job"] == JOB.id
    assert (shown["fine-tuned model"], shown["trained tokens"], shown["base model"]) == (
        model,
        "4711",
        "base",
    )
    assert shown["ghostwriter_training_set"] == "set-1"
    assert nodes["adapters"]["version"] == model


def test_the_page_tells_why_a_job_failed(world: FakeWorld, tmp_path: Path) -> None:
    emit = build_emitter(tmp_path)
    emit("START", RUN, JOB)
    failure = JobFailure(code="disk_full", message="The disk is full.")
    emit("FAIL", RUN, JOB.model_copy(update={"status": "failed", "error": failure}))
    shown = show(world, tmp_path)["fine_tuning_job"]
    assert (shown["state"], shown["error"]) == ("FAIL", "The disk is full.")
    assert shown["fine-tuning job"] == JOB.id


def test_what_cannot_be_spooled_stops_no_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "llm").write_text("a file where the folder should be")
    build_emitter(tmp_path)("START", RUN, JOB)
    assert "was not spooled" in caplog.text
