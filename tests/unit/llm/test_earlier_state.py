"""A state folder of the release before durable jobs goes on: its jobs, files and tuned models are there.

`earlier_state` was made by the code before "Engines by role: ports, fakes, one folder per engine", with a trainer of a
few lines, and copied while a job ran, as a kill leaves it.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.unit.llm.test_job_survival import TRAINER, messages_of
from tests.unit.llm.test_llm_fine_tuning import ENDLESS, JOBS, stop, wait_for

EARLIER = Path(__file__).with_name("earlier_state")
TUNED, BARE = "ftjob-3ac8cc67f30b42baad9a1fcf", "ftjob-809ccc4ef4424158b338831f"
FAILED, CANCELLED = "ftjob-687b6cf135b9407ca5a3b61a", "ftjob-bceb87571dfc457dbf65329d"
RUNNING, QUEUED = "ftjob-099cda2cecaf49e8b70d5257", "ftjob-fbf4755f9f7142c7981bd922"
NEW = "ftjob-9da9a70344044650b1b074a0"
MODELS = ["ft:smollm2-135m-instruct:field-notes:ad9a1fcf", "ft:smollm2-135m-instruct::b338831f"]
LEFT_AT = 1_795_546_760  # when the running job's trainer wrote last
RUN_ID = "e296af4e-29bf-439a-8afb-016e302f9014"


@pytest.fixture
def state(tmp_path):
    """The folder, each time as it was left: a checkout's files are as new as the checkout."""
    folder = Path(shutil.copytree(EARLIER, tmp_path / "earlier"))
    for path in folder.rglob("*"):
        os.utime(path, (LEFT_AT, LEFT_AT))
    return folder


def ask(server, model):
    chat = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    return server.client.post("/v1/chat/completions", json=chat).status_code


def test_its_jobs_are_listed_as_they_were(start, state, caplog):
    server = start(state=state, trainer=ENDLESS)
    jobs = server.client.get(JOBS).json()["data"]
    assert [job["id"] for job in jobs] == [NEW, QUEUED, RUNNING, CANCELLED, FAILED, BARE, TUNED]
    for job in jobs:
        record = json.loads((EARLIER / "jobs" / job["id"] / "job.json").read_text())
        open_ended = record["status"] in ("validating_files", "queued", "running")
        kept = record.keys() - ({"status", "estimated_finish"} if open_ended else set())
        assert {key: job[key] for key in kept - {"hyperparameters"}} == {
            key: record[key] for key in kept - {"hyperparameters"}
        }
        assert job["hyperparameters"].items() >= record["hyperparameters"].items()
        # As that release trained, and as a resumed job must.
        assert (job["hyperparameters"]["lora_rank"], job["hyperparameters"]["lora_alpha"]) == (8, 16)
        told = [json.loads(line)["id"] for line in (EARLIER / "jobs" / job["id"] / "events.jsonl").open()]
        events = server.client.get(f"{JOBS}/{job['id']}/events", params={"limit": 1000}).json()["data"]
        assert [event["id"] for event in events][::-1][: len(told)] == told
        assert server.client.get(f"{JOBS}/{job['id']}/checkpoints").json()["data"] == []
    assert server.client.get("/ready").json().get("unreadable") is None
    assert "left out" not in caplog.text
    by_metadata = {"metadata[ghostwriter_training_set]": "set-1"}
    assert [job["id"] for job in server.client.get(JOBS, params=by_metadata).json()["data"]] == [TUNED]


def test_its_tuned_models_serve_and_can_be_deleted(start, state):
    server = start(state=state, trainer=ENDLESS)
    listed = [model["id"] for model in server.client.get("/v1/models").json()["data"]]
    assert [model for model in listed if model.startswith("ft:")] == MODELS
    assert [ask(server, model) for model in MODELS] == [200, 200]
    assert server.client.delete(f"/v1/models/{MODELS[0]}").json()["deleted"]
    again = start(state=state, trainer=ENDLESS) if stop(server) else None
    assert [ask(again, model) for model in MODELS] == [404, 200]
    assert again.client.get(f"{JOBS}/{TUNED}").json()["status"] == "succeeded"


def test_its_files_are_there(start, state):
    server = start(state=state, trainer=ENDLESS)
    files = server.client.get("/v1/files").json()["data"]
    assert {file["id"] for file in files} == {path.name for path in (EARLIER / "files").iterdir()}
    (results,) = server.client.get(f"{JOBS}/{TUNED}").json()["result_files"]
    assert server.client.get(f"/v1/files/{results}/content").text.startswith("step,train_loss,")
    assert server.client.delete(f"/v1/files/{results}").json()["deleted"]


def test_what_had_not_ended_goes_on_to_its_end(start, state):
    server = start(state=state, trainer=TRAINER + "finish()")
    for job_id in (RUNNING, QUEUED, NEW):
        done = wait_for(server, {"id": job_id}, "succeeded", "failed")
        assert (done["status"], done["error"]) == ("succeeded", None)
        assert ask(server, done["fine_tuned_model"]) == 200
    told = messages_of(server, {"id": RUNNING})
    assert told.count("Fine-tuning job started") == 2  # there were no checkpoints to go on from
    stop(server)
    assert (server.lineage[0], server.run_ids[0]) == (("ABORT", RUNNING), RUN_ID)
    assert [event for event, job_id in server.lineage if job_id == RUNNING] == ["ABORT", "START", "COMPLETE"]


@pytest.mark.parametrize("job_id", [TUNED, FAILED, CANCELLED])
def test_what_had_ended_stays_so(start, state, job_id):
    server = start(state=state, trainer=ENDLESS)
    for action in ("cancel", "pause", "resume"):
        answer = server.client.post(f"{JOBS}/{job_id}/{action}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "job_ended")


@pytest.mark.parametrize("job_id", [RUNNING, QUEUED])
def test_what_had_not_ended_can_be_paused_resumed_and_cancelled(start, state, job_id):
    server = start(state=state, trainer=ENDLESS)
    for action, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert server.client.post(f"{JOBS}/{job_id}/{action}").json()["status"] == status
    again = start(state=state, trainer=ENDLESS) if stop(server) else None
    assert again.client.get(f"{JOBS}/{job_id}").json()["status"] == "cancelled"
