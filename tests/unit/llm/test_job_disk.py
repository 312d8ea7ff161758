"""Jobs on a full disk fail in words, and leave the server well."""

import errno
import json

import pytest

from deployments.llm.fine_tuning.events import append_event, read_events
from tests.unit.llm.test_job_survival import TRAINER, wait_until
from tests.unit.llm.test_llm_fine_tuning import ENDLESS, JOBS, create, wait_for


def fail_full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def full(name):
    """Makes one place meet a full disk."""
    return pytest.param(f"deployments.llm.{name}", id=name.rsplit(".", 2)[-2])


@pytest.mark.parametrize(
    "place",
    [
        full("fine_tuning.validation.replace_durably"),
        full("fine_tuning.attempt.write_durably"),
        full("fine_tuning.outcome.pack_folder"),
    ],
)
def test_a_full_disk_fails_the_job_in_words_and_the_next_one_succeeds(start, place, monkeypatch):
    server = start(trainer=TRAINER + "finish()")
    with monkeypatch.context() as broken:
        broken.setattr(place, fail_full)
        failed = wait_for(server, create(server), "failed", "succeeded")
    assert failed["error"]["code"] == "disk_full"
    assert "Free some space" in failed["error"]["message"]
    assert {file["purpose"] for file in server.client.get("/v1/files").json()["data"]} == {"fine-tune"}
    assert wait_for(server, create(server), "succeeded", "failed")["status"] == "succeeded"


def test_a_job_is_cancelled_on_a_full_disk_and_the_record_follows(start, monkeypatch):
    server = start(trainer=ENDLESS)
    job = create(server)
    wait_for(server, job, "running")
    path = server.jobs.job_dir(job["id"]) / "job.json"
    with monkeypatch.context() as broken:
        broken.setattr("deployments.llm.fine_tuning.store.write_durably", fail_full)
        broken.setattr("deployments.llm.fine_tuning.events.append_line", fail_full)
        assert server.client.post(f"{JOBS}/{job['id']}/cancel").json()["status"] == "cancelled"
        refused = server.client.post(
            JOBS, json={"model": job["model"], "training_file": job["training_file"]}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
        assert json.loads(path.read_text())["status"] == "running"
    wait_until(lambda: json.loads(path.read_text())["status"] == "cancelled")
    assert [found.id for found in server.jobs.list()] == [job["id"]]
    assert len(list(path.parent.parent.iterdir())) == 1


def test_an_event_that_cannot_be_written_is_left_out_and_spoils_no_other(tmp_path, monkeypatch, caplog):
    append_event(tmp_path, "first")
    with (tmp_path / "events.jsonl").open("a") as events:
        events.write('{"id": "torn by a full')
    with monkeypatch.context() as broken:
        broken.setattr("os.write", fail_full)
        append_event(tmp_path, "second")
    append_event(tmp_path, "third")
    assert [event.message for event in read_events(tmp_path)] == ["first", "third"]
    assert "second" in caplog.text
