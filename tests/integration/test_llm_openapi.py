"""schemathesis on the LLM server with fake engines: no 500, and no answer that the OpenAPI page does not tell."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from deployments.llm.app import create_app
from deployments.llm.engines.fakes import FakeChatEngine
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.settings import LlmSettings
from deployments.llm.uploads import FileStore
from tests.unit.llm.conftest import KEY, fake_engines

TOOL = Path(".venv-clients/bin/schemathesis")
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "unsupported_method,allow_header_conformance,missing_required_header,ignored_auth"
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not installed")]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose trainer does nothing."""
    state = tmp_path_factory.mktemp("llm")
    engine, files, jobs = (
        FakeChatEngine(max_queue=10**6),
        FileStore(state / "files"),
        JobStore(state / "jobs"),
    )
    command = [sys.executable, "-c", ""]
    runner = JobRunner(jobs, files, engine, command=command, environment=None, emit=lambda *_: None)
    app = create_app(LlmSettings(), fake_engines(engine), api_key=KEY, files=files, jobs=jobs, runner=runner)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not (server.started and engine.ready):
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize(("key", "seconds"), [(KEY, 30), ("wrong", 8)], ids=["with a key", "without"])
def test_no_answer_is_a_500_or_undocumented(url: str, tmp_path: Path, key: str, seconds: int) -> None:
    page = tmp_path / "openapi.json"
    page.write_bytes(httpx.get(f"{url}/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).content)
    asked = ["--header", f"Authorization: Bearer {key}", "--checks", CHECKS, "--seed", "1", "--no-color"]
    bounds = ["--max-time", str(seconds), "--request-timeout", "10", "--max-failures", "5"]
    quiet = ["--suppress-health-check", "all", "--warnings", "off"]
    done = subprocess.run(
        [TOOL.absolute(), "run", page, "--url", url, *asked, *bounds, *quiet],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=seconds + 110,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
