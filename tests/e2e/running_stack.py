"""A running stack as the end-to-end tests see it: commands, REST, processes, ports.

It knows neither who started it nor what is tested.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from stack.ports import DEFAULT_PORTS

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / ".venv" / "bin" / "ghostwriter"
BASE_PORTS = {
    "postgres": DEFAULT_PORTS["POSTGRES_PORT"],
    "weaviate": DEFAULT_PORTS["WEAVIATE_PORT"],
    "mlflow": DEFAULT_PORTS["MLFLOW_PORT"],
    "llm": DEFAULT_PORTS["LLM_PORT"],
    "ingest-api-server": DEFAULT_PORTS["INGEST_PORT"],
    "training-api-server": DEFAULT_PORTS["TRAINING_PORT"],
    "serving": DEFAULT_PORTS["SERVING_PORT"],
}


@dataclass
class Stack:
    """One running system, and the command line that talks to it."""

    state_dir: Path
    content_dir: Path
    port_offset: int
    started_here: bool
    up_output: str = ""
    up_seconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)
    """What one test leaves for a later one: ids of posts, versions, counts."""

    @property
    def environment(self) -> dict[str, str]:
        # Of the settings of whoever runs the tests, only those of the machine count here.
        own = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("GHOSTWRITER_")
            or key in ("GHOSTWRITER_CACHE_DIR", "GHOSTWRITER_SKIP_CHECKS")
        }
        return own | {
            "STATE_DIR": str(self.state_dir),
            "PORT_OFFSET": str(self.port_offset),
            "GHOSTWRITER_CONTENT_DIR": str(self.content_dir),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    def make(
        self, *targets: str, timeout: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return self.execute("make", *targets, timeout=timeout, check=check)

    def ghostwriter(self, *arguments: str, timeout: float = 300, check: bool = True) -> Any:
        """The parsed answer of a `--json` command."""
        done = self.execute(str(COMMAND), *arguments, "--json", timeout=timeout, check=check)
        return json.loads(done.stdout) if done.returncode == 0 else done

    def execute(self, *command: str, timeout: float, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode != 0:
            pytest.fail(
                f"{' '.join(command)} → {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def port(self, name: str) -> int:
        return BASE_PORTS[name] + self.port_offset

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port(name)}"

    def secret(self, name: str) -> str:
        return (self.state_dir / "secrets" / name).read_text().strip()

    def airflow(self, name: str) -> "Airflow":
        return Airflow(self.url(f"{name}-api-server"), self.secret("admin_password"))

    def llm(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.url("llm") + "/v1",
            headers={"Authorization": f"Bearer {self.secret('llm_api_key')}"},
            timeout=60,
            trust_env=False,
        )

    def list_jobs(self) -> list[dict[str, Any]]:
        """Newest first."""
        return self._list("/fine_tuning/jobs")

    def list_of_job(self, job_id: str, what: str) -> list[dict[str, Any]]:
        """Its `events` or `checkpoints`, newest first."""
        return self._list(f"/fine_tuning/jobs/{job_id}/{what}")

    def _list(self, path: str) -> list[dict[str, Any]]:
        with self.llm() as http:
            return list(http.get(path, params={"limit": 100}).raise_for_status().json()["data"])

    def processes(self) -> list[psutil.Process]:
        """Every live process that was started for this stack: its state folder is in its environment or command."""
        mark = str(self.state_dir)
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                words = [*process.cmdline(), *process.environ().values()]
            except psutil.Error:
                continue
            if any(mark in word for word in words):
                found.append(process)
        return found


class Airflow:
    """Just enough of one deployment's REST API to see and cause runs, written apart from the product's client."""

    def __init__(self, url: str, password: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        token = self.http.post("/auth/token", json={"username": "admin", "password": password})
        self.http.headers["Authorization"] = f"Bearer {token.raise_for_status().json()['access_token']}"

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Newest first."""
        answer = self.http.get(
            f"/api/v2/dags/{dag_id}/dagRuns", params={"order_by": "-run_after", "limit": 100}
        )
        return list(answer.raise_for_status().json()["dag_runs"])

    def task_states(self, run: dict[str, Any]) -> dict[str, str]:
        path = f"/api/v2/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances"
        answer = self.http.get(path, params={"limit": 200}).raise_for_status().json()
        return {item["task_id"]: item["state"] for item in answer["task_instances"]}

    def post_event(self, asset_uri: str, extra: dict[str, Any]) -> None:
        assets = self.http.get("/api/v2/assets", params={"uri_pattern": asset_uri, "limit": 100})
        # Airflow stores `scheme://name` as `scheme://name/`.
        found = assets.raise_for_status().json()["assets"]
        (asset,) = [item for item in found if item["uri"].rstrip("/") == asset_uri]
        body = {"asset_id": asset["id"], "extra": extra}
        self.http.post("/api/v2/assets/events", json=body).raise_for_status()

    def wait_for_new_run(self, dag_id: str, known: set[str], *, timeout: float) -> dict[str, Any]:
        """The newest run that wasn't known, once it is over."""

        def find() -> dict[str, Any] | None:
            new = [run for run in self.runs(dag_id) if run["dag_run_id"] not in known]
            return new[0] if new and all(run["state"] in ("success", "failed") for run in new) else None

        return wait_until(find, timeout=timeout, what=f"a new run of {dag_id}")

    def known(self, dag_id: str) -> set[str]:
        return {run["dag_run_id"] for run in self.runs(dag_id)}


def wait_until(look: Callable[[], Any], *, timeout: float, what: str, every: float = 1.0) -> Any:
    """What `look` finds, as soon as it is true; connection errors count as not yet."""
    deadline = time.monotonic() + timeout
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = look()
        except httpx.HTTPError as error:
            last, found = error, False
        else:
            found = bool(last)
        if found:
            return last
        time.sleep(every)
    pytest.fail(f"No {what} after {timeout:.0f} s; last seen: {last!r}")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def choose_port_offset() -> int:
    """An offset under which every port is free, away from the default stack's."""
    for offset in range(5000, 9000, 100):
        if all(is_free(port + offset) for port in DEFAULT_PORTS.values()):
            return offset
    pytest.fail("No free ports for a stack between offsets 5000 and 9000")
