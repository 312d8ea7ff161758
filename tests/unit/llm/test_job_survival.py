"""Jobs whose trainer is killed, paused or short of disk; the trainer is a few lines that keep checkpoints."""

import json
import os
import shutil
import signal
import subprocess
import time
import zipfile
from io import BytesIO

import pytest

from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.fine_tuning.store import JobStore
from tests.unit.llm.test_llm_fine_tuning import (
    ENDLESS,
    GOOD,
    JOBS,
    create,
    is_alive,
    pid_of,
    stop,
    wait_for,
    wait_for_event,
)

TRAINER = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1])
def save(step, epoch=None):
    target = folder / "checkpoints" / f"step-{step}"
    partial = target.with_name("." + target.name)
    partial.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "optimizer.pt"):
        (partial / name).write_text(f"{name} of {step}")
    metrics = {"train_loss": 1.5, "valid_loss": 2.5}
    note = {"step": step, "epoch": epoch, "metrics": metrics, "created_at": 1000 + step}
    (partial / "checkpoint.json").write_text(json.dumps(note))
    partial.rename(target)
def finish():
    (folder / "adapter").mkdir(exist_ok=True)
    (folder / "adapter" / "adapter_model.safetensors").write_text("weights")
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (folder / "metrics.csv").write_text("step,train_loss\\n1,2.5\\n")
    (folder / "result.json").write_text(json.dumps({"trained_tokens": 12}))
def die(number=signal.SIGKILL):
    os.kill(os.getpid(), number)
done = sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))
newest = done[-1] if done else 0
"""
DEAF = TRAINER + "signal.signal(signal.SIGTERM, signal.SIG_IGN); save(1); time.sleep(60)"
HOLDING = (
    TRAINER
    + """
if newest:
    finish()
else:
    save(3)
    save(4, epoch=1)
    save(5)
    time.sleep(60)
"""
)


def messages_of(server, job):
    path = f"{JOBS}/{job['id']}/events?limit=1000"
    return [event["message"] for event in server.client.get(path).json()["data"]][::-1]


def wait_for_checkpoint(server, job, step):
    folder = server.jobs.job_dir(job["id"]) / "checkpoints" / f"step-{step}"
    wait_until(folder.exists)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_job_whose_trainer_is_killed_goes_on_from_its_newest_checkpoint(start):
    server = start(trainer=HOLDING)
    job = create(server)
    wait_for_checkpoint(server, job, 5)
    os.kill(pid_of(server, job), signal.SIGKILL)
    assert wait_for(server, job, "succeeded", "failed")["status"] == "succeeded"
    told = messages_of(server, job)
    assert told.index("The trainer died (SIGKILL); the job goes on") + 1 == told.index(
        "Fine-tuning job resumed from step 5"
    )
    assert [event for event, _ in stop(server).lineage] == ["START", "ABORT", "START", "COMPLETE"]


def test_a_job_of_a_killed_server_goes_on_from_its_newest_checkpoint(start, tmp_path):
    server = start(trainer=HOLDING)
    job = create(server)
    wait_for_checkpoint(server, job, 5)
    pid = pid_of(server, job)
    shutil.copytree(tmp_path / "state", tmp_path / "left")  # what a kill -9 leaves
    again = start(trainer=HOLDING, state=tmp_path / "left")
    assert wait_for(again, job, "succeeded", "failed")["status"] == "succeeded"
    assert "Fine-tuning job resumed from step 5" in messages_of(again, job)
    assert not is_alive(pid)


def test_a_trainer_that_dies_again_and_again_fails_the_job_in_words(start):
    server = start(trainer=TRAINER + "save(7) if not newest else None\ndie(signal.SIGSEGV)")
    failed = wait_for(server, create(server), "failed", "succeeded")
    assert failed["error"]["code"] == "training_failed"
    for word in ("died 3 times in a row", "beyond step 7", "SIGSEGV", "trainer.log"):
        assert word in failed["error"]["message"]
    # The first attempt got somewhere.
    assert [event for event, _ in stop(server).lineage] == ["START", "ABORT"] * 3 + ["START", "FAIL"]


def test_a_trainer_that_gets_further_each_time_it_dies_is_started_again(start):
    server = start(trainer=TRAINER + "if newest > 5: finish(); sys.exit()\nsave(newest + 1)\ndie()")
    assert wait_for(server, create(server), "succeeded", "failed")["status"] == "succeeded"
    assert len(stop(server).lineage) == 14


def test_a_paused_job_ends_its_process_and_goes_on_when_it_is_resumed(start):
    server = start(trainer=HOLDING)
    job, second = create(server), create(server)
    wait_for_checkpoint(server, job, 5)
    pid = pid_of(server, job)
    assert server.client.post(f"{JOBS}/{job['id']}/pause").json()["status"] == "paused"
    wait_until(lambda: not is_alive(pid))
    wait_for(server, second, "running")
    server.client.post(f"{JOBS}/{second['id']}/cancel")
    assert server.client.post(f"{JOBS}/{job['id']}/pause").json()["status"] == "paused"  # a repeated call
    again = start(trainer=HOLDING) if stop(server) else None
    assert wait_for(again, job, "paused")["status"] == "paused"
    assert again.client.post(f"{JOBS}/{job['id']}/resume").json()["status"] == "queued"
    done = wait_for(again, job, "succeeded", "failed")
    assert (done["status"], done["finished_at"] is not None) == ("succeeded", True)
    for action, code in (("pause", "job_ended"), ("resume", "job_ended"), ("cancel", "job_ended")):
        answer = again.client.post(f"{JOBS}/{job['id']}/{action}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_job_that_waits_can_be_paused_and_one_that_is_not_paused_cannot_be_resumed(start):
    server = start(trainer=ENDLESS)
    running, waiting = create(server), create(server)
    wait_for(server, running, "running")
    wait_for(server, waiting, "queued")
    refused = server.client.post(f"{JOBS}/{waiting['id']}/resume")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "job_not_paused")
    server.client.post(f"{JOBS}/{waiting['id']}/pause")
    server.client.post(f"{JOBS}/{running['id']}/cancel")
    third = create(server)
    wait_for(server, third, "running")
    assert wait_for(server, waiting, "paused")
    assert server.client.post(f"{JOBS}/{waiting['id']}/cancel").json()["status"] == "cancelled"


def test_a_job_paused_and_resumed_at_once_has_one_trainer(start):
    server = start(trainer=ENDLESS)
    job = create(server)
    wait_for(server, job, "running")
    pid = pid_of(server, job)
    for action in ("pause", "resume") * 5:
        assert server.client.post(f"{JOBS}/{job['id']}/{action}").status_code == 200
    wait_until(lambda: not is_alive(pid))
    wait_for(server, job, "running")
    events = [event for event, _ in stop(server).lineage]
    assert events == ["START", "ABORT"] * (len(events) // 2)


@pytest.mark.parametrize("action", ["cancel", "pause"])
def test_a_trainer_that_does_not_listen_is_ended(start, action):
    server = start(trainer=DEAF)
    job = create(server)
    wait_for_checkpoint(server, job, 1)
    pid = pid_of(server, job)
    server.client.post(f"{JOBS}/{job['id']}/{action}")
    wait_until(lambda: not is_alive(pid))


@pytest.mark.parametrize(("trained", "status"), [(100.0, "failed"), (10.0, "running")])
def test_only_the_time_of_training_counts_for_the_limit(start, trained, status):
    server = start(trainer=ENDLESS)
    job = create(server)
    wait_for(server, job, "running")
    server.client.post(f"{JOBS}/{job['id']}/pause")
    path = stop(server).jobs.job_dir(job["id"]) / "job.json"
    record = json.loads(path.read_text())
    record["created_at"] -= 10_000  # paused for long
    record["server"]["seconds"] += trained
    path.write_text(json.dumps(record))
    again = start(trainer=ENDLESS, timeout=50)
    again.client.post(f"{JOBS}/{job['id']}/resume")
    now = wait_for(again, job, "failed", "running")
    if status == "failed":
        now = wait_for(again, job, "failed")
        assert now["error"]["code"] == "timeout"
    assert now["status"] == status


def test_the_seconds_of_an_attempt_are_kept(start):
    server = start(trainer=HOLDING)
    job = create(server)
    wait_for_checkpoint(server, job, 5)
    server.client.post(f"{JOBS}/{job['id']}/pause")
    stop(server)
    assert server.jobs.get(job["id"]).server.seconds > 0


def test_checkpoints_of_epochs_can_be_listed_and_asked(start):
    server = start(trainer=HOLDING)
    job = create(server, suffix="voice")
    wait_for_checkpoint(server, job, 5)
    page = server.client.get(f"{JOBS}/{job['id']}/checkpoints").json()
    (checkpoint,) = page["data"]
    name = f"ft:{job['model']}:voice:{job['id'][-8:]}:ckpt-step-4"
    assert checkpoint["fine_tuned_model_checkpoint"] == name
    assert (checkpoint["step_number"], checkpoint["created_at"]) == (4, 1004)
    assert checkpoint["metrics"] == {"step": 4, "train_loss": 1.5, "valid_loss": 2.5}
    assert (page["first_id"], page["has_more"]) == (checkpoint["id"], False)
    wait_for_event(server, job, f"Checkpoint created at step 4 with name: {name}")
    chat = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
    assert server.client.post("/v1/chat/completions", json=chat).status_code == 200
    server.client.post(f"{JOBS}/{job['id']}/cancel")
    again = start(trainer=HOLDING) if stop(server) else None
    assert again.client.post("/v1/chat/completions", json=chat).status_code == 200
    assert name in [model["id"] for model in again.client.get("/v1/models").json()["data"]]
    kept = again.jobs.job_dir(job["id"]) / "checkpoints"
    assert [path.name for path in kept.iterdir()] == ["step-4"]  # nothing that only a trainer needs
    assert not (kept / "step-4" / "optimizer.pt").exists()
    assert again.jobs.delete_model(name)
    assert name not in again.jobs.models()
    assert not again.jobs.delete_model(name)


def test_checkpoints_displace_no_model_that_is_used(start):
    server = start(trainer=TRAINER + "save(4, epoch=1); finish()")
    model = wait_for(server, create(server), "succeeded")["fine_tuned_model"]
    assert server.engine.wanted_soon == {f"{model}:ckpt-step-4": False, model: True}
    stop(server)
    assert start().engine.wanted_soon == server.engine.wanted_soon


def test_the_adapter_can_be_downloaded_with_the_same_bytes_each_time(start):
    server = start(trainer=TRAINER + "finish()")
    contents = []
    for _ in range(2):
        done = wait_for(server, create(server), "succeeded")
        files = [server.client.get(f"/v1/files/{file}").json() for file in done["result_files"]]
        assert [file["purpose"] for file in files] == ["fine-tune-results"] * 2
        assert [file["filename"].split("_")[1] for file in files] == ["metrics.csv", "adapter.zip"]
        contents.append(server.client.get(f"/v1/files/{files[1]['id']}/content").content)
    assert contents[0] == contents[1]
    with zipfile.ZipFile(BytesIO(contents[0])) as archive:
        assert archive.namelist() == ["adapter_config.json", "adapter_model.safetensors"]
        assert archive.read("adapter_model.safetensors") == b"weights"


def test_a_job_paused_as_it_ends_leaves_no_model_until_it_goes_on(start):
    server = start(trainer=TRAINER + "finish()")
    register, paused = server.engine.register_adapter, []

    def pause_first(model_id, directory, **wishes):
        register(model_id, directory, **wishes)
        if not paused:
            paused.append(server.client.post(f"{JOBS}/{server.jobs.list()[0].id}/pause").json()["status"])

    server.engine.register_adapter = pause_first
    job = create(server)
    wait_for(server, job, "paused")
    wait_until(lambda: not server.engine.adapters)
    wait_until(lambda: not (server.jobs.job_dir(job["id"]) / "process.json").exists())
    purposes = {file["purpose"] for file in server.client.get("/v1/files").json()["data"]}
    assert (paused, purposes) == (["paused"], {"fine-tune"})
    server.client.post(f"{JOBS}/{job['id']}/resume")
    assert wait_for(server, job, "succeeded")["fine_tuned_model"] in server.engine.adapters


def test_a_damaged_checkpoint_is_left_out(start, caplog):
    server = start(trainer=HOLDING)
    job = create(server)
    wait_for_checkpoint(server, job, 5)
    server.client.post(f"{JOBS}/{job['id']}/pause")
    folder = stop(server).jobs.job_dir(job["id"]) / "checkpoints"
    (folder / "step-4" / "checkpoint.json").write_text("{")
    (folder / "step-x").mkdir()
    (folder / "step-9").mkdir()
    jobs = JobStore(folder.parent.parent)
    assert jobs.models() == {}
    assert "step-4/checkpoint.json" in caplog.text


def test_a_job_waits_for_the_model_that_counts_its_tokens_and_fails_where_there_is_none(start):
    server = start(FakeChatEngine(ready=False))
    job = create(server)
    server.engine._ready = True
    server.client.post(f"{JOBS}/{job['id']}/pause")
    server.client.post(f"{JOBS}/{job['id']}/resume")
    assert wait_for(server, job, "succeeded", "failed")["status"] == "succeeded"
    broken = start(FakeChatEngine(failure="no weights"))
    failed = wait_for(broken, create(broken, GOOD), "failed")
    assert "no weights" in failed["error"]["message"]


def test_a_job_whose_trainer_cannot_be_started_does_not_say_that_it_runs(start, monkeypatch):
    def fail(*_):
        raise subprocess.TimeoutExpired("trainer", 5)  # one that had to be ended, and was not

    server = start(trainer=TRAINER + "finish()")
    with monkeypatch.context() as broken:
        broken.setattr("deployments.llm.fine_tuning.runner.start_attempt", fail)
        assert wait_for(server, create(server), "failed")["status"] == "failed"
    assert wait_for(server, create(server), "succeeded", "failed")["status"] == "succeeded"
