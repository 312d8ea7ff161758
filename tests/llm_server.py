"""The LLM server in a process of its own, on the bundled models or on the fakes, over a folder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

ROOT = Path(__file__).parents[1]
LLM_PYTHON = ROOT / ".venv-llm" / "bin" / "python"
TRAINER_PYTHON = ROOT / ".venv-trainer" / "bin" / "python"
KEY = "only-for-this-test"
REAL, FAKE = "deployments.llm", "tests.clients.fake_server"


class LlmServer(NamedTuple):
    """A running server; `url` has no `/v1`."""

    url: str
    key: str
    process: "subprocess.Popen[bytes]"
    log: Path


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def serve_llm(
    folder: Path, module: str = REAL, *, seconds: float = 60, wait: bool = True, **settings: object
) -> Iterator[LlmServer]:
    """Starts `module` over `folder` and yields when it is ready; `settings` become `GHOSTWRITER_<NAME>`."""
    port, log = _free_port(), folder / "llm.log"
    (folder / "secrets").mkdir(parents=True, exist_ok=True)
    (folder / "secrets" / "llm_api_key").write_text(KEY)
    environment: Mapping[str, object] = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GHOSTWRITER_LLM_")},
        "GHOSTWRITER_STATE_DIR": folder / "state",
        "GHOSTWRITER_SECRETS_DIR": folder / "secrets",
        "GHOSTWRITER_LINEAGE_SPOOL_DIR": folder / "spool",
        "GHOSTWRITER_LLM_PORT": port,
        "GHOSTWRITER_LLM_TRAINER_PYTHON": TRAINER_PYTHON,
        **{f"GHOSTWRITER_{name.upper()}": value for name, value in settings.items()},
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [LLM_PYTHON if LLM_PYTHON.exists() else sys.executable, "-m", module],
            cwd=ROOT,
            env={name: str(value) for name, value in environment.items()},
            stdout=output,
            stderr=output,
        )
    try:
        server = LlmServer(f"http://127.0.0.1:{port}", KEY, process, log)
        if wait:
            _wait_until_ready(server, seconds)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_until_ready(server: LlmServer, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if httpx.get(f"{server.url}/ready", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        running = server.process.poll() is None
        assert running and time.monotonic() < end, server.log.read_text(errors="replace")[-4000:]
        time.sleep(0.1)
