"""The files that a job leaves: once each, whatever is killed, and none of a job that has no model."""

import errno
import json
import shutil

import pytest

from deployments.llm.engines.fakes import FakeChatEngine
from tests.unit.llm.test_job_survival import TRAINER, wait_until
from tests.unit.llm.test_llm_fine_tuning import ENDLESS, JOBS, create, stop, wait_for

FINISHING = TRAINER + "finish()"


class CopyingEngine(FakeChatEngine):
    """Copies the state as a kill would leave it: the files are published, the success is not recorded."""

    def __init__(self, state, left):
        super().__init__()
        self.state, self.left = state, left

    def register_adapter(self, model_id, directory):
        super().register_adapter(model_id, directory)
        shutil.copytree(self.state, self.left)


@pytest.fixture
def left(start, tmp_path):
    """A job of a server that was killed between the two; gives the job and its state folder."""
    folder = tmp_path / "left"
    server = start(CopyingEngine(tmp_path / "state", folder), trainer=FINISHING)
    job = wait_for(server, create(server), "succeeded")
    stop(server)
    assert json.loads((folder / "jobs" / job["id"] / "job.json").read_text())["status"] == "running"
    assert all((folder / "files" / file).exists() for file in job["result_files"])
    return job, folder


def list_results(server):
    files = server.client.get("/v1/files", params={"purpose": "fine-tune-results"}).json()["data"]
    return sorted(file["id"] for file in files)


def test_results_that_were_published_before_a_kill_are_there_once(start, left):
    job, folder = left
    metrics = folder / "files" / job["result_files"][0] / "content"
    metrics.write_text("of the attempt before")
    again = start(trainer=FINISHING, state=folder)
    done = wait_for(again, job, "succeeded", "failed")
    assert done["result_files"] == job["result_files"]
    assert list_results(again) == sorted(job["result_files"])
    table = again.client.get(f"/v1/files/{job['result_files'][0]}/content").text
    assert table == "step,train_loss\n1,2.5\n"  # of the attempt that made the model


def test_a_job_that_is_cancelled_after_the_kill_has_no_results(start, left):
    job, folder = left
    again = start(trainer=ENDLESS, state=folder)
    wait_for(again, job, "running")
    assert list_results(again) == []
    assert again.client.post(f"{JOBS}/{job['id']}/cancel").json()["status"] == "cancelled"
    assert list_results(again) == []


def test_a_damaged_result_of_an_attempt_before_keeps_no_server_from_starting(start, left):
    job, folder = left
    record = folder / "files" / job["result_files"][0] / "file.json"
    record.write_text("{")
    again = start(trainer=FINISHING, state=folder)
    assert wait_for(again, job, "succeeded", "failed")["result_files"] == job["result_files"]
    assert list_results(again) == sorted(job["result_files"])


def test_a_job_whose_success_cannot_be_recorded_leaves_no_results(start, monkeypatch):
    server = start(trainer=FINISHING)
    change = server.jobs.change

    def refuse(job_id, **fields):
        if fields.get("status") == "succeeded":
            raise OSError(errno.EIO, "Input/output error")
        return change(job_id, **fields)

    monkeypatch.setattr(server.jobs, "change", refuse)
    job = wait_for(server, create(server), "failed", "succeeded")
    assert (job["status"], job["result_files"]) == ("failed", [])
    wait_until(lambda: not (server.jobs.job_dir(job["id"]) / "process.json").exists())
    assert (list_results(server), dict(server.engine.adapters)) == ([], {})


def test_two_jobs_have_results_of_their_own_and_what_a_client_deletes_stays_deleted(start):
    server = start(trainer=FINISHING)
    first, second = (wait_for(server, create(server), "succeeded") for _ in range(2))
    assert len({*first["result_files"], *second["result_files"]}) == 4
    assert server.client.delete(f"/v1/files/{first['result_files'][0]}").json()["deleted"]
    again = start(trainer=FINISHING) if stop(server) else None
    assert list_results(again) == sorted([first["result_files"][1], *second["result_files"]])
