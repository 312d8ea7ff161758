"""What a kill left half-written or half-deleted is gone once the next server has started; nothing else is."""

import errno
import json
import subprocess
import sys

import psutil
import pytest

from tests.unit.llm.test_job_survival import HOLDING, wait_for_checkpoint, wait_until
from tests.unit.llm.test_llm_fine_tuning import JOBS, create, is_alive, stop, wait_for

UPLOAD = "file-0123456789abcdef01234567"
LEFT = (
    f"files/.{UPLOAD}/content",  # mid-upload
    f"files/.{UPLOAD}.deleted/content",  # mid-deletion
    "jobs/.ftjob-0123456789abcdef01234567/events.jsonl",  # mid-creation
    "jobs/{job}/.job.json.0a1b2c3d",  # a record that was being written
    "jobs/{job}/.train.jsonl.0a1b2c3d",  # a copy that was being made
    "jobs/{job}/.adapter.partial/adapter_model.safetensors",  # an adapter that was being copied
    "jobs/{job}/.adapter.0a1b2c3d/adapter_model.safetensors",  # an adapter that was being deleted
    "jobs/{job}/checkpoints/.step-7/optimizer.pt",  # a checkpoint that was being written
    "jobs/{job}/checkpoints/.step-3.gone/optimizer.pt",  # one that was being thinned out
    "jobs/{job}/checkpoints/.step-4.0a1b2c3d/adapter_model.safetensors",  # one that was being deleted
)
OTHERS = (
    "files/.DS_Store",
    "files/.nfs0000000000000001",
    "jobs/.keep/notes.txt",
    "jobs/{job}/.notes.txt",
    "jobs/{job}/trainer.log.1",
    "jobs/{job}/checkpoints/step-3.bak/notes.txt",
)


def leave(state, job, places):
    paths = [state / place.format(job=job["id"]) for place in places]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left")
    return paths


def test_a_start_sweeps_what_a_kill_left_and_says_how_much(start, tmp_path, caplog):
    server = start()
    job = wait_for(server, create(server), "succeeded")
    state = tmp_path / "state"
    stop(server)
    before = set(state.rglob("*"))
    leave(state, job, OTHERS)
    kept = set(state.rglob("*"))
    assert len(kept) > len(before)
    leave(state, job, LEFT)
    again = start()
    assert set(state.rglob("*")) == kept
    assert f"{len(LEFT)} leftovers" in caplog.text
    assert wait_for(again, job, "succeeded")["fine_tuned_model"] == job["fine_tuned_model"]
    stop(again)
    caplog.clear()
    start()
    assert "leftovers" not in caplog.text


WRITING = """
import pathlib, sys
while True:
    pathlib.Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
"""


def test_a_trainer_that_still_writes_is_ended_before_the_sweep(start):
    server = start()
    job = wait_for(server, create(server), "succeeded")
    folder = stop(server).jobs.job_dir(job["id"])
    (folder / "job.json").write_text(json.dumps({**job, "status": "paused", "fine_tuned_model": None}))
    partial = folder / "checkpoints" / ".step-7"
    trainer = subprocess.Popen([sys.executable, "-c", WRITING, str(partial)])
    try:
        wait_until(partial.exists)
        note = {"pid": trainer.pid, "create_time": psutil.Process(trainer.pid).create_time()}
        (folder / "process.json").write_text(json.dumps(note))
        start()
        assert not is_alive(trainer.pid) and not partial.exists()
    finally:
        trainer.kill()
        trainer.wait(10)


def test_what_cannot_be_swept_stays_and_the_server_starts(start, tmp_path, monkeypatch, caplog):
    server = start()
    job = wait_for(server, create(server), "succeeded")
    stop(server)
    (path,) = leave(tmp_path / "state", job, ["jobs/{job}/.adapter.partial/adapter_model.safetensors"])

    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("deployments.llm.durable_files.shutil.rmtree", refuse)
    again = start()
    assert path.exists() and str(path.parent) in caplog.text
    assert wait_for(again, job, "succeeded")


def test_the_folder_of_a_damaged_job_stays_as_it_is(start, tmp_path):
    server = start()
    job = wait_for(server, create(server), "succeeded")
    (stop(server).jobs.job_dir(job["id"]) / "job.json").write_text("{")
    (path,) = leave(tmp_path / "state", job, ["jobs/{job}/.job.json.0a1b2c3d"])
    start()
    assert path.exists()


def test_what_only_a_trainer_needs_goes_after_a_kill_at_a_jobs_end(start, tmp_path):
    """The job's end was recorded, and the server killed before it had tidied up."""
    server = start(trainer=HOLDING)
    job = create(server)
    wait_for_checkpoint(server, job, 5)
    server.client.post(f"{JOBS}/{job['id']}/cancel")
    folder = server.jobs.job_dir(job["id"]) / "checkpoints"
    wait_until(lambda: not (folder / "step-5").exists())
    stop(server)
    (folder / "step-4" / "optimizer.pt").write_text("left")
    start()
    assert sorted(path.name for path in (folder / "step-4").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "checkpoint.json",
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["append_event", "write_durably"])
def test_a_job_that_could_not_be_made_leaves_nothing(start, tmp_path, monkeypatch, place):
    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    server = start()
    with monkeypatch.context() as broken:
        broken.setattr(f"deployments.llm.fine_tuning.store.{place}", fail)
        sent = {"file": ("set.jsonl", b'{"messages": [{"role": "assistant", "content": "b"}]}')}
        file = server.client.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).json()["id"]
        body = {"model": server.engine.chat_model, "training_file": file}
        assert server.client.post(JOBS, json=body).status_code == 500
    assert list((tmp_path / "state" / "jobs").iterdir()) == []
