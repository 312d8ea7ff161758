"""The LLM server as a process that is killed, started twice, and left without disk; its trainers are real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from shared import contracts
from tests.unit.llm.test_job_survival import HOLDING, TRAINER
from tests.unit.llm.test_llm_fine_tuning import GOOD

JOBS = "/v1/fine_tuning/jobs"


class Server:
    """A server process on a state folder."""

    def __init__(self, state: Path, trainer: str) -> None:
        state.mkdir(exist_ok=True)
        (state / "trainer.py").write_text(trainer)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.job_server", str(state), str(port)],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()[1]
        try:
            return self.http.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def upload(self, content: str = GOOD) -> httpx.Response:
        sent = {"file": ("set.jsonl", content.encode())}
        return self.http.post("/v1/files", files=sent, data={"purpose": "fine-tune"})

    def order(self, file: str, key: str | None = None) -> httpx.Response:
        body = {"model": contracts.LOCAL_CHAT_MODEL, "training_file": file}
        return self.http.post(JOBS, json=body, headers={"Idempotency-Key": key} if key else {})

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"{JOBS}/{job_id}").json()
        return found

    def wait_for_end(self, job_id: str) -> dict[str, Any]:
        wait_until(lambda: self.job(job_id)["finished_at"] is not None)
        return self.job(job_id)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def serve() -> Iterator[Callable[[Path, str], Server]]:
    servers: list[Server] = []

    def start(state: Path, trainer: str) -> Server:
        servers.append(Server(state, trainer))
        wait_until(servers[-1].is_ready)
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.communicate(timeout=10)
        for note in server.state.glob("jobs/*/process.json"):
            pid = json.loads(note.read_text())["pid"]
            if psutil.pid_exists(pid) and "step-" in " ".join(psutil.Process(pid).cmdline()):
                psutil.Process(pid).kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder]).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_killed_server_leaves_its_folder_and_its_job_to_the_next(
    serve: Callable[[Path, str], Server], tmp_path: Path
) -> None:
    first = serve(tmp_path, HOLDING)
    file = first.upload().json()["id"]
    job = first.order(file, "key").json()["id"]
    wait_until((tmp_path / "jobs" / job / "checkpoints" / "step-5").exists)
    trainer = json.loads((tmp_path / "jobs" / job / "process.json").read_text())["pid"]

    second = Server(tmp_path, HOLDING)
    message = second.process.communicate(timeout=30)[1]
    assert second.process.returncode == 1
    assert f"process {first.process.pid}) uses {tmp_path}" in message

    first.process.send_signal(signal.SIGKILL)
    first.process.wait(10)
    third = serve(tmp_path, HOLDING)
    assert third.wait_for_end(job)["status"] == "succeeded"
    assert not psutil.pid_exists(trainer)
    events = third.http.get(f"{JOBS}/{job}/events", params={"limit": 100}).json()["data"]
    assert "Fine-tuning job resumed from step 5" in [event["message"] for event in events]
    assert third.order(file, "key").json()["id"] == job


def test_a_trainer_has_a_lower_priority_than_the_server(
    serve: Callable[[Path, str], Server], tmp_path: Path
) -> None:
    server = serve(tmp_path, HOLDING)
    job = server.order(server.upload().json()["id"]).json()["id"]
    wait_until((tmp_path / "jobs" / job / "checkpoints" / "step-5").exists)
    trainer = json.loads((tmp_path / "jobs" / job / "process.json").read_text())["pid"]
    wait_until(lambda: psutil.Process(trainer).nice() == max(5, psutil.Process().nice()))


def test_a_disk_that_is_too_small_for_the_copy_fails_the_job_and_the_server_goes_on(
    serve: Callable[[Path, str], Server], small_disk: Path
) -> None:
    server = serve(small_disk, TRAINER + "finish()")
    line = GOOD.replace('"a"', f'"{"a" * 1000}"') + "\n"
    large = server.upload(line * 3_800)  # 4 MB, and no room for another 4
    job = server.order(large.json()["id"]).json()["id"]
    failed = server.wait_for_end(job)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "disk_full")
    refused = server.upload(line * 3_800)
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "disk_full")
    small = server.order(server.upload().json()["id"]).json()["id"]
    assert server.wait_for_end(small)["status"] == "succeeded"


def test_a_trainer_that_fills_the_disk_fails_its_job_and_the_server_goes_on(
    serve: Callable[[Path, str], Server], small_disk: Path
) -> None:
    filling = "(folder / 'filler').write_bytes(bytes(10**7))"
    server = serve(small_disk, TRAINER + filling)
    file = server.upload().json()["id"]
    job = server.order(file).json()["id"]
    failed = server.wait_for_end(job)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "disk_full")
    # The copies of its files made room for the record.
    record = json.loads((small_disk / "jobs" / job / "job.json").read_text())
    assert record["error"]["code"] == "disk_full"
    assert server.is_ready()
    (small_disk / "jobs" / job / "filler").unlink()
    assert server.upload().status_code == 200
