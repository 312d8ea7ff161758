"""Fine-tuning jobs with a real process in the trainer's place."""

import json
import shutil
import subprocess
import sys
import time

import psutil
import pytest

from deployments.llm.engines.answer_text import AnswerText
from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.engines.ports import QueueFullError
from deployments.llm.fine_tuning.examples import BadExampleError, read_examples
from shared import contracts
from tests.unit.llm.conftest import QUICK_TRAINER

GOOD = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
JOBS = "/v1/fine_tuning/jobs"
ENDLESS = "import time; time.sleep(60)"
STEPPING = """
import json, pathlib, sys, time
with (pathlib.Path(sys.argv[-1]) / "events.jsonl").open("a") as events:
    for step in (1, 2, 3):
        data = {"step": step, "total_steps": 10}
        event = {"id": f"e{step}", "created_at": 1000 + 4 * step, "message": "", "type": "metrics", "data": data}
        print(json.dumps(event), file=events, flush=True)
time.sleep(60)
"""


def create(server, content=GOOD, **fields):
    sent = {"file": ("set.jsonl", content.encode())}
    file = server.client.post("/v1/files", files=sent, data={"purpose": "fine-tune"}).json()
    body = {"model": contracts.LOCAL_CHAT_MODEL, "training_file": file["id"], **fields}
    answer = server.client.post(JOBS, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait_for(server, job, *statuses):
    deadline = time.monotonic() + 20
    while (now := server.client.get(f"{JOBS}/{job['id']}").json())["status"] not in statuses:
        assert time.monotonic() < deadline, now
        time.sleep(0.05)
    return now


def wait_for_event(server, job, message):
    deadline = time.monotonic() + 30
    while server.client.get(f"{JOBS}/{job['id']}/events").json()["data"][0]["message"] != message:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pid_of(server, job):
    path = server.jobs.job_dir(job["id"]) / "process.json"
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return json.loads(path.read_text())["pid"]


def stop(server):
    """Stops a server as SIGTERM does."""
    server.stop()
    return server


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_job_makes_a_model_that_answers_now_and_after_a_restart(server, start):
    job = create(server, suffix="Our Voice", metadata={"set": "s1"}, hyperparameters={"n_epochs": 2})
    done = wait_for(server, job, "succeeded", "failed")
    model = done["fine_tuned_model"]
    assert model == f"ft:{contracts.LOCAL_CHAT_MODEL}:our-voice:{job['id'][-8:]}"
    assert (done["trained_tokens"], done["hyperparameters"]["n_epochs"]) == (12, 2)
    assert server.client.get(f"/v1/files/{done['result_files'][0]}/content").text.startswith("step,")
    chat = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    assert server.client.post("/v1/chat/completions", json=chat).status_code == 200
    messages = [event["message"] for event in server.client.get(f"{JOBS}/{job['id']}/events").json()["data"]]
    assert messages[-1] == "Created fine-tuning job"
    assert messages[0] == "The job has successfully completed"

    assert stop(server).lineage == [("START", job["id"]), ("COMPLETE", job["id"])]
    again = start()
    assert again.client.post("/v1/chat/completions", json=chat).status_code == 200
    assert model in [item["id"] for item in again.client.get("/v1/models").json()["data"]]
    assert len(again.client.get(JOBS, params={"metadata[set]": "s1"}).json()["data"]) == 1
    assert again.client.get(JOBS, params={"metadata[set]": "s2"}).json()["data"] == []


def test_a_file_that_was_damaged_since_fails_the_job_with_its_line(start, tmp_path):
    server = start(trainer=ENDLESS)
    wait_for(server, create(server), "running")
    waiting = wait_for(server, create(server), "queued")
    (tmp_path / "state" / "files" / waiting["training_file"] / "content").write_text(GOOD + "\n\n{oops")
    body = {"model": contracts.LOCAL_CHAT_MODEL, "training_file": waiting["training_file"]}
    failed = wait_for(server, server.client.post(JOBS, json=body).json(), "failed", "queued")
    assert (failed["error"]["code"], failed["error"]["param"]) == ("invalid_training_file", "training_file")
    assert "training_file: Line 3" in failed["error"]["message"]


def test_a_tokenizer_that_others_keep_busy_fails_no_job(start):
    engine = FakeChatEngine()
    count, refusals = engine.count_tokens, [QueueFullError("Other texts are being read.")]

    def count_later(messages):
        if refusals:
            raise refusals.pop()
        return count(messages)

    engine.count_tokens = count_later
    server = start(engine)
    job = create(server)
    create(server)  # which wakes who validates
    assert wait_for(server, job, "succeeded", "failed")["status"] == "succeeded"
    assert not refusals


def test_a_trainer_that_breaks_fails_the_job(start):
    server = start(trainer="import sys; sys.exit(3)")
    failed = wait_for(server, create(server), "failed")
    assert "code 3" in failed["error"]["message"]
    assert stop(server).lineage[-1][0] == "FAIL"


def test_cancelling_ends_the_process_and_the_next_job_waits_its_turn(start):
    server = start(trainer=ENDLESS)
    first, second = create(server), create(server)
    wait_for(server, first, "running")
    pid = pid_of(server, first)
    assert wait_for(server, second, "queued")["status"] == "queued"
    assert server.client.post(f"{JOBS}/{first['id']}/cancel").json()["status"] == "cancelled"
    wait_for(server, second, "running")
    assert not is_alive(pid)
    again = server.client.post(f"{JOBS}/{first['id']}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (400, "job_ended")


def test_after_a_kill_the_job_runs_again_and_the_leftover_process_ends(server, start):
    # The state that a kill -9 of the server leaves: a running job, its process alive.
    leftover = subprocess.Popen([sys.executable, "-c", ENDLESS])
    job = wait_for(server, create(server), "succeeded")
    directory = server.jobs.job_dir(job["id"])
    left = {**job, "status": "running", "fine_tuned_model": None, "finished_at": None, "result_files": []}
    (directory / "job.json").write_text(json.dumps(left))
    (directory / "adapter").rmdir()
    created = psutil.Process(leftover.pid).create_time()
    (directory / "process.json").write_text(json.dumps({"pid": leftover.pid, "create_time": created}))
    again = start()
    done = wait_for(again, job, "succeeded", "failed")
    assert done["status"] == "succeeded"
    assert not is_alive(leftover.pid)


def test_a_kill_of_the_server_ends_the_lineage_of_the_attempt_before_the_next_one(start, tmp_path):
    server = start(trainer=ENDLESS)
    job = create(server)
    wait_for(server, job, "running")
    leftover = pid_of(server, job)
    # What is on disk at this moment is what a kill -9 would leave.
    shutil.copytree(tmp_path / "state", tmp_path / "left")
    again = start(state=tmp_path / "left")
    wait_for(again, job, "succeeded")
    stop(again)
    assert not is_alive(leftover)
    assert [event for event, _ in again.lineage] == ["ABORT", "START", "COMPLETE"]
    first, second, third = again.run_ids
    assert first == server.run_ids[0] != second == third
    assert stop(start(state=tmp_path / "left")).lineage == []


def test_a_cancelled_job_has_its_end_even_when_the_server_is_killed_at_once(start, tmp_path):
    server = start(trainer=ENDLESS)
    job = create(server)
    wait_for(server, job, "running")
    pid_of(server, job)
    shutil.copytree(tmp_path / "state", tmp_path / "left")
    cancelled = {**server.client.get(f"{JOBS}/{job['id']}").json(), "status": "cancelled"}
    (tmp_path / "left" / "jobs" / job["id"] / "job.json").write_text(json.dumps(cancelled))
    again = stop(start(state=tmp_path / "left"))
    assert (again.lineage, again.run_ids) == ([("ABORT", job["id"])], server.run_ids[:1])


def test_a_stop_of_the_server_ends_the_trainer_and_the_job_runs_again(start):
    server = start(trainer=ENDLESS)
    job = create(server)
    wait_for(server, job, "running")
    pid = pid_of(server, job)
    stop(server)
    assert not is_alive(pid)
    assert [event for event, _ in server.lineage] == ["START", "ABORT"]
    again = start()
    wait_for(again, job, "succeeded")
    assert [event for event, _ in stop(again).lineage] == ["START", "COMPLETE"]


def test_a_job_cancelled_as_it_ends_leaves_no_model(start):
    class CancellingEngine(FakeChatEngine):
        def register_adapter(self, model_id, directory, **wishes):
            super().register_adapter(model_id, directory, **wishes)
            (job,) = server.jobs.list()
            server.client.post(f"{JOBS}/{job.id}/cancel")

    server = start(CancellingEngine())
    job = wait_for(server, create(server), "cancelled", "succeeded")
    stop(server)
    assert (job["status"], server.engine.adapters) == ("cancelled", {})
    assert [event for event, _ in server.lineage] == ["START", "ABORT"]


def test_a_trainer_that_forgets_its_metrics_fails_the_job(start):
    trainer = QUICK_TRAINER.replace("metrics.csv", "else.csv")
    server = start(trainer=trainer)
    failed = wait_for(server, create(server), "failed")
    assert failed["error"]["code"] == "server_error"
    assert [event for event, _ in stop(server).lineage] == ["START", "FAIL"]


def test_a_job_whose_trainer_cannot_be_started_fails(start):
    server = start(python="/nowhere/python")
    failed = wait_for(server, create(server), "failed")
    assert failed["error"]["code"] == "server_error"
    assert stop(server).lineage == []


def test_a_running_job_says_when_it_will_be_done(start, tmp_path):
    server = start(trainer=STEPPING)
    job = create(server)
    assert job["estimated_finish"] is None
    deadline = time.monotonic() + 30
    while (now := server.client.get(f"{JOBS}/{job['id']}").json())["estimated_finish"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert now["estimated_finish"] == 1012 + 4 * 7
    assert server.client.get(JOBS).json()["data"][0]["estimated_finish"] == 1040
    shutil.copytree(tmp_path / "state", tmp_path / "left")
    assert server.client.post(f"{JOBS}/{job['id']}/cancel").json()["estimated_finish"] is None
    assert server.client.get(f"{JOBS}/{job['id']}").json()["estimated_finish"] is None
    again = start(trainer=ENDLESS, state=tmp_path / "left")  # the rate of the attempt before says nothing
    wait_for_event(again, job, "Fine-tuning job started")
    assert wait_for(again, job, "running")["estimated_finish"] is None


@pytest.mark.parametrize("change", [{"model": "nope"}, {"training_file": "file-00000000"}])
def test_a_job_on_nothing_is_refused(server, change):
    answer = server.client.post(
        JOBS, json={"model": contracts.LOCAL_CHAT_MODEL, "training_file": "x", **change}
    )
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] in ("model", "training_file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no example"),
        ("[]", "Line 1: not a JSON object"),
        (GOOD + '\n{"messages": [{"role": "user", "content": "a"}]}', "Line 2: the last message"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', r"Line 1: messages\[0\].role"),
        ('{"messages": [{"role": "user", "content": 1}]}', r"messages\[0\].content"),
        ('{"messages": [{"role": "assistant", "content": " "}]}', "empty"),
    ],
)
def test_bad_examples_are_named(content, message):
    with pytest.raises(BadExampleError, match=message):
        read_examples(content.encode())


def test_an_example_with_odd_line_ends_is_one_example():
    text = "a\u2028b\u2029c\x85d"
    line = json.dumps({"messages": [{"role": "assistant", "content": text}]}, ensure_ascii=False)
    assert [example[0]["content"] for example in read_examples(f"{line}\n{line}\n".encode())] == [text, text]


def test_answer_text_holds_back_what_may_become_a_stop_sequence():
    answer = AnswerText(["END"])
    assert answer.push("one E") == "one "
    assert answer.push("one Ex") == "Ex"
    assert answer.push("one Ex EN") == " "
    assert answer.push("one Ex END more") == ""
    assert answer.stopped


def test_answer_text_holds_back_half_a_character():
    answer = AnswerText()
    assert answer.push("caf\ufffd") == "caf"
    assert answer.push("café") == "é"
