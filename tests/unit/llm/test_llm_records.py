"""A damaged record on disk is named and kept; everything else goes on."""

import json
import subprocess
import sys

import httpx2
import psutil
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from deployments.training import records as training_records
from deployments.training.jobs import attach_or_create
from deployments.training.proposals import Order
from deployments.training.tuning.openai import OpenAiTuning
from deployments.training.tuning.port import TuningUnavailableError
from shared import contracts
from shared.ledger.models import Base
from tests.unit.llm.conftest import KEY
from tests.unit.llm.test_llm_fine_tuning import ENDLESS, GOOD, JOBS, create, pid_of, stop, wait_for


def without(record, key):
    return {name: value for name, value in record.items() if name != key}


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "not UTF-8": lambda content: content.replace(b'"', b'"\xff', 1),
    "a list": lambda content: b"[]",
    "deep": lambda content: b"[" * 100_000,
    "a wrong type": lambda content: json.dumps({**json.loads(content), "created_at": {}}).encode(),
    "a missing key": lambda content: json.dumps(without(json.loads(content), "created_at")).encode(),
    "another's": lambda content: json.dumps({**json.loads(content), "id": "../../elsewhere"}).encode(),
}
damaged = pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())


def spoil(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    return path.read_bytes()


@damaged
def test_a_damaged_job_keeps_no_other_from_being_served(start, damage, caplog):
    server = start()
    good, bad = (wait_for(server, create(server, suffix=name), "succeeded") for name in ("good", "bad"))
    path = stop(server).jobs.job_dir(bad["id"]) / "job.json"
    left = spoil(path, damage)
    again = start()
    assert again.client.get(f"{JOBS}/{good['id']}").json()["status"] == "succeeded"
    chat = {"model": good["fine_tuned_model"], "messages": [{"role": "user", "content": "hello"}]}
    assert again.client.post("/v1/chat/completions", json=chat).status_code == 200
    for call in (again.client.get, lambda url: again.client.post(f"{url}/cancel")):
        answer = call(f"{JOBS}/{bad['id']}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "unreadable_record")
        assert bad["id"] in answer.json()["error"]["message"]
    assert again.client.get("/ready").json()["unreadable"] == [bad["id"]]
    assert wait_for(again, create(again), "succeeded", "failed")["status"] == "succeeded"
    assert str(path) in caplog.text and path.read_bytes() == left


def test_a_list_that_lacks_a_job_is_none_so_nobody_buys_another(start, tmp_path):
    """Training looks for its own job before it asks for one; it lost the answer, and the record was damaged."""
    files = {split: tmp_path / f"{split}.jsonl" for split in ("train", "validation", "holdout")}
    for path in files.values():
        path.write_text(GOOD)
    ledger = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    Base.metadata.create_all(ledger)
    sessions = sessionmaker(ledger, expire_on_commit=False)
    order = Order("set-1", contracts.LOCAL_CHAT_MODEL, 2, 1.0, "notes")
    with sessions.begin() as session:
        training_records.save_training_set(session, order.training_set, files, [], {}, "1", "run")
    server = start()
    job = create(server, metadata=order.metadata)
    wait_for(server, job, "succeeded")
    path = stop(server).jobs.job_dir(job["id"]) / "job.json"
    whole = path.read_bytes()
    path.write_bytes(b"")
    again = start()
    answer = again.client.get(JOBS, params={"limit": 1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "unreadable_record")

    def forward(request):
        target = request.url.raw_path.decode()
        sent = again.client.request(
            request.method, target, content=request.read(), headers=dict(request.headers)
        )
        return httpx2.Response(sent.status_code, content=sent.content)

    tuning = OpenAiTuning("http://x/v1", KEY, max_retries=0, transport=httpx2.MockTransport(forward))
    with pytest.raises(TuningUnavailableError, match=f"{job['id']}/job.json can't be read.*server's log"):
        attach_or_create(order, sessions, tuning)
    assert len(list(path.parent.parent.iterdir())) == 1
    path.write_bytes(whole)
    stop(again)
    again = start()
    assert attach_or_create(order, sessions, tuning).id == job["id"]
    assert len(list(path.parent.parent.iterdir())) == 1


def test_health_names_no_record_where_all_can_be_read(server):
    assert "unreadable" not in server.client.get("/ready").json()


@pytest.mark.parametrize("own_id", [False, True])
def test_a_copy_of_a_jobs_folder_does_not_take_its_place(start, own_id):
    server = start()
    job = wait_for(server, create(server), "succeeded")
    folder = stop(server).jobs.job_dir(job["id"])
    copy = folder.with_name(f"{folder.name}.bak")
    copy.mkdir()
    record = {**job, "status": "running", "id": copy.name if own_id else job["id"]}
    (copy / "job.json").write_text(json.dumps(record))
    again = start()
    assert again.client.get(f"{JOBS}/{job['id']}").json()["status"] == "succeeded"
    assert again.client.get("/ready").json()["unreadable"] == [copy.name]
    assert [job["id"] for job in again.client.get(JOBS).json()["data"]] == [job["id"]]


@damaged
def test_a_damaged_file_keeps_no_other_from_being_served(server, tmp_path, damage, caplog):
    def upload():
        sent = {"file": ("set.jsonl", GOOD.encode())}
        return server.client.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).json()["id"]

    good, bad = upload(), upload()
    path = tmp_path / "state" / "files" / bad / "file.json"
    left = spoil(path, damage)
    later = upload()
    listed = server.client.get("/v1/files")
    assert {file["id"] for file in listed.json()["data"]} == {good, later}
    body = {"model": contracts.LOCAL_CHAT_MODEL, "training_file": bad}
    for answer in (
        server.client.get(f"/v1/files/{bad}"),
        server.client.get(f"/v1/files/{bad}/content"),
        server.client.delete(f"/v1/files/{bad}"),
        server.client.post(JOBS, json=body),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "unreadable_record")
        assert bad in answer.json()["error"]["message"]
    assert str(path) in caplog.text and path.read_bytes() == left


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b'{"pid": 1}', b'{"pid": "me", "create_time": 1}', b'{"pid": -1, "create_time": 1}',
             b'{"pid": 9999999999999999999999, "create_time": 1}', b"\xff", b"[" * 100_000]
)  # fmt: skip
def test_a_damaged_note_of_an_attempt_keeps_no_job_from_running_again(start, tmp_path, note, caplog):
    server = start()
    job = wait_for(server, create(server), "succeeded")
    folder = stop(server).jobs.job_dir(job["id"])
    left = {**job, "status": "running", "fine_tuned_model": None, "finished_at": None, "result_files": []}
    (folder / "job.json").write_text(json.dumps(left))
    (folder / "adapter").rmdir()
    (folder / "process.json").write_bytes(note)
    assert wait_for(start(), job, "succeeded", "failed")["status"] == "succeeded"
    assert (folder / "process.json.unreadable").read_bytes() == note
    assert str(folder / "process.json") in caplog.text


def test_a_note_of_an_old_process_does_not_end_another(start):
    server = start(trainer=ENDLESS)
    job = create(server)
    wait_for(server, job, "running")
    pid_of(server, job)
    folder = server.jobs.job_dir(job["id"])
    other = subprocess.Popen([sys.executable, "-c", ENDLESS])
    try:
        stop(server)
        created = psutil.Process(other.pid).create_time() - 1.5
        (folder / "process.json").write_text(json.dumps({"pid": other.pid, "create_time": created}))
        stop(start(trainer=ENDLESS))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait(10)


@pytest.mark.parametrize(
    "result", ["", "[]", "{", "{}", '{"trained_tokens": "many"}', '{"trained_tokens": null}']
)
def test_a_damaged_result_fails_the_job_and_the_record_stays_readable(start, result):
    trainer = f"""
import pathlib, sys
folder = pathlib.Path(sys.argv[-1])
(folder / "adapter").mkdir()
(folder / "metrics.csv").write_text("step")
(folder / "result.json").write_text({result!r})
"""
    server = start(trainer=trainer)
    failed = wait_for(server, create(server), "failed", "succeeded")
    assert failed["error"]["code"] == "training_failed"
    assert "trainer.log" in failed["error"]["message"]
    stop(server)
    assert wait_for(start(), failed, "failed")["error"] == failed["error"]


ODD_METRICS = b'{"id": "e", "created_at": 1, "message": "", "type": "metrics", "data": {"step": "x"}}'


@pytest.mark.parametrize(
    "line", [b"{", b"\xff", b"[]", b"[" * 100_000, b'{"type": "metrics"}', ODD_METRICS], ids=range(6)
)
def test_a_damaged_event_is_left_out(start, line):
    server = start(trainer=ENDLESS)
    job = create(server)
    wait_for(server, job, "running")
    with (server.jobs.job_dir(job["id"]) / "events.jsonl").open("ab") as events:
        events.write(line + b"\n")
    assert server.client.get(f"{JOBS}/{job['id']}").json()["estimated_finish"] is None
    events = server.client.get(f"{JOBS}/{job['id']}/events").json()["data"]
    assert events[-1]["message"] == "Created fine-tuning job"
