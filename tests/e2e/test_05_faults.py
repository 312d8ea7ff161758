"""kill -9 of a scheduler and of the LLM server in mid-job: the pipeline finishes by itself, with one job."""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared import contracts
from tests.e2e.running_stack import wait_until

pytestmark = pytest.mark.timeout(1500)

FEW = {"train": 10, "validation": 2, "holdout": 6}
"""The least that providers train on, and that a decision takes: a job and an exam are what is killed, not long ones."""


@pytest.fixture
def few_examples(stack, tmp_path: Path) -> Iterator[None]:
    """A training set that no other test has, learnt in ten steps."""
    examples, saved = stack.content_dir / "examples", tmp_path / "examples"
    shutil.copytree(examples, saved)
    for split, count in FEW.items():
        for path in sorted((examples / split).glob("*.md"))[count:]:
            path.unlink()
    yield
    shutil.copytree(saved, examples, dirs_exist_ok=True)


def find_processes(stack, *words: str) -> list[psutil.Process]:
    """This stack's processes whose command line has all the words."""
    found = []
    for process in stack.processes():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if all(word in line for word in words):
            found.append(process)
    return found


def kill_listener(stack, port: int) -> None:
    for process in stack.processes():
        try:
            listens = any(
                connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
                for connection in process.net_connections(kind="inet")
            )
        except psutil.Error:
            continue
        if listens:
            process.send_signal(signal.SIGKILL)
            return
    pytest.fail(f"Nobody listens on port {port}")


def kill_scheduler(stack) -> int:
    """The training deployment's: its Airflow home tells it from ingest's. Returns its process group."""
    for process in find_processes(stack, "airflow", "scheduler"):
        leads = os.getpgid(process.pid) == process.pid
        if leads and "training" in process.environ().get("AIRFLOW_HOME", ""):
            process.send_signal(signal.SIGKILL)
            return process.pid
    pytest.fail("No scheduler of the training deployment found")


def find_group(group: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == group:
                found.append(pid)
    return found


def test_kills_in_the_middle_of_a_job(stack, training, few_examples) -> None:
    jobs = {job["id"] for job in stack.list_jobs()}
    fine_tunes = training.known(contracts.FINE_TUNE_DAG)
    promotions = training.known(contracts.PROMOTE_DAG)
    versions = len(stack.ghostwriter("models", "list"))
    stack.ghostwriter("train", "start")

    def find_running_job() -> object:
        return next(
            (job for job in stack.list_jobs() if job["id"] not in jobs and job["status"] == "running"), None
        )

    job = wait_until(find_running_job, timeout=300, what="running job")
    group = kill_scheduler(stack)
    wait_until(
        lambda: stack.list_of_job(job["id"], "checkpoints"), timeout=300, what="first epoch", every=0.2
    )
    assert stack.list_jobs()[0]["status"] == "running"
    kill_listener(stack, stack.port("llm"))
    wait_until(lambda: stack.list_jobs(), timeout=180, what="LLM server after kill -9")
    # An orphaned worker would hold the scheduler's database locks: the run would never go on.
    wait_until(lambda: not find_group(group), timeout=60, what="end of the dead scheduler's workers")

    run = training.wait_for_new_run(contracts.FINE_TUNE_DAG, fine_tunes, timeout=900)
    assert run["state"] == "success", training.task_states(run)
    decision = training.wait_for_new_run(contracts.PROMOTE_DAG, promotions, timeout=600)
    assert decision["state"] == "success", training.task_states(decision)

    new = [item for item in stack.list_jobs() if item["id"] not in jobs]
    assert [item["id"] for item in new] == [job["id"]], "a second job was made"
    assert new[0]["status"] == "succeeded"
    told = [event["message"] for event in stack.list_of_job(job["id"], "events")]
    assert any("resumed from step" in message for message in told), told
    assert len(stack.ghostwriter("models", "list")) == versions + 1


def test_the_new_version_answers_after_all_that(stack) -> None:
    newest = stack.ghostwriter("models", "list")[0]
    post = stack.ghostwriter("write", "Deferrable operators", "--model", newest["version"])
    assert post["model"]["version"] == newest["version"]


def test_a_cleared_wait_keeps_its_job_and_a_marked_one_cancels_it(stack, training) -> None:
    jobs = {job["id"] for job in stack.list_jobs()}
    known = training.known(contracts.FINE_TUNE_DAG)
    voice = stack.content_dir / "voice.toml"
    saved = voice.read_text()
    longer = {"n_epochs": "n_epochs = 40", "max_training_cost": "max_training_cost = 1000"}
    lines = [longer.get(line.partition("=")[0].strip(), line) for line in saved.splitlines()]

    def find_waiting_task(try_number: int) -> dict[str, object] | None:
        for run in training.runs(contracts.FINE_TUNE_DAG):
            if run["dag_run_id"] not in known:
                path = f"/api/v2/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/fine_tune"
                task = training.http.get(path).raise_for_status().json()
                if (task["state"], task["try_number"]) == ("deferred", try_number):
                    return {"path": path, "run": run["dag_run_id"]}
        return None

    def find_new_jobs() -> dict[str, str]:
        return {job["id"]: job["status"] for job in stack.list_jobs() if job["id"] not in jobs}

    try:
        voice.write_text("\n".join(lines) + "\n")
        stack.ghostwriter("train", "start")
        task = wait_until(lambda: find_waiting_task(1), timeout=300, what="task that waits for its job")
        clear = {"dry_run": False, "dag_run_id": task["run"], "task_ids": ["fine_tune"], "only_failed": False}
        path = f"/api/v2/dags/{contracts.FINE_TUNE_DAG}/clearTaskInstances"
        training.http.post(path, json=clear).raise_for_status()
        wait_until(lambda: find_waiting_task(2), timeout=120, what="cleared task that waits again")
        time.sleep(5)  # the triggerer ends the first wait in the meantime
        (status,) = find_new_jobs().values()
        assert status != "cancelled"
        training.http.patch(str(task["path"]), json={"new_state": "failed"}).raise_for_status()
        wait_until(lambda: "cancelled" in find_new_jobs().values(), timeout=60, what="cancelled job")
    finally:
        voice.write_text(saved)
    assert len(find_new_jobs()) == 1
