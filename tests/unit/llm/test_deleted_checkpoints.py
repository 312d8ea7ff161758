"""A checkpoint's model that was deleted stays deleted, whatever its job does then, and the job is none the worse."""

import shutil
import threading

import pytest

from tests.unit.llm.test_job_survival import TRAINER, messages_of, wait_until
from tests.unit.llm.test_llm_fine_tuning import JOBS, create, stop, wait_for, wait_for_event

TWO_EPOCHS = (
    TRAINER
    + """
if newest < 1: save(1)
resumed = (folder / "resumed").exists()
if newest < 2: save(2, epoch=1)
(folder / "resumed").touch()
if resumed and newest < 3: save(3, epoch=2)
while not (folder / "go").exists(): time.sleep(0.02)
finish()
"""
)


@pytest.fixture(params=["kept", "lost"])
def deleted(start, request):
    """A server whose job went on after a checkpoint's model was deleted: from that checkpoint, or from before it."""
    server = start(trainer=TWO_EPOCHS)
    job = create(server)
    folder = server.jobs.job_dir(job["id"])
    wait_until((folder / "resumed").exists)
    name = f"ft:{job['model']}::{job['id'][-8:]}:ckpt-step-2"
    wait_for_event(server, job, f"Checkpoint created at step 2 with name: {name}")
    server.client.post(f"{JOBS}/{job['id']}/pause")
    wait_until(lambda: not (folder / "process.json").exists())
    assert server.client.delete(f"/v1/models/{name}").json()["deleted"]
    if request.param == "lost":
        shutil.rmtree(folder / "checkpoints" / "step-2")
    server.client.post(f"{JOBS}/{job['id']}/resume")
    wait_for_event(server, job, f"Checkpoint created at step 3 with name: {name[:-1]}3")
    step = 2 if request.param == "kept" else 1
    assert f"Fine-tuning job resumed from step {step}" in messages_of(server, job)
    return server, job, name


def assert_gone(server, job, name):
    chat = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
    assert server.client.post("/v1/chat/completions", json=chat).status_code == 404
    assert server.client.get(f"/v1/models/{name}").status_code == 404
    assert server.client.delete(f"/v1/models/{name}").status_code == 404
    listed = server.client.get(f"{JOBS}/{job['id']}/checkpoints").json()["data"]
    assert [checkpoint["step_number"] for checkpoint in listed] == [3]
    assert list(server.jobs.models())[:1] == [f"{name[:-1]}3"]
    assert name not in server.engine.adapters
    assert f"{name[:-1]}3" in server.engine.adapters


def test_a_deleted_checkpoint_does_not_come_back_as_its_job_goes_on(deleted):
    server, job, name = deleted
    assert_gone(server, job, name)
    assert messages_of(server, job).count(f"Checkpoint created at step 2 with name: {name}") == 1


def test_it_stays_deleted_after_a_restart_and_nothing_of_it_stays_once_the_job_has_ended(deleted, start):
    server, job, name = deleted
    stop(server)
    again = start(trainer=TWO_EPOCHS)
    assert_gone(again, job, name)
    folder = again.jobs.job_dir(job["id"])
    assert (folder / "checkpoints" / "step-2").exists()  # the job may have to go on from there
    (folder / "go").touch()
    done = wait_for(again, job, "succeeded", "failed")
    wait_until(lambda: not (folder / "process.json").exists())
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-3"]
    assert done["fine_tuned_model"] in again.engine.adapters


def test_what_is_noted_of_a_job_at_once_is_all_kept(start):
    """The runner notes seconds while a client deletes models."""
    server = start()
    job = create(server)
    wait_for(server, job, "succeeded")
    other = server.jobs.create(model="base", training_file="file-00000000", status="paused")
    barrier = threading.Barrier(8)

    def note():
        barrier.wait(10)
        for _ in range(20):
            server.jobs.note(other.id, lambda notes: {"seconds": notes.seconds + 1})

    threads = [threading.Thread(target=note) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert server.jobs.get(other.id).server.seconds == 160
