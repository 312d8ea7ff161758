"""Foreign clients speak to the LLM server on the bundled models, each from an environment that it would be in."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.llm_server import LLM_PYTHON, ROOT, serve_llm

CLIENTS_PYTHON = ROOT / ".venv-clients" / "bin" / "python"
SECONDS = 900


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.skipif(not LLM_PYTHON.exists(), reason="no .venv-llm: `make install` makes it")
@pytest.mark.skipif(not CLIENTS_PYTHON.exists(), reason="no .venv-clients")
def test_every_client_speaks_to_the_running_server(tmp_path: Path) -> None:
    # One thread: two that share their cores with other tests wait for each other most of the time.
    with serve_llm(tmp_path, seconds=120, llm_threads=1) as server:
        done = subprocess.run(
            [CLIENTS_PYTHON, "-m", "pytest", "tests/clients", "-q", "--basetemp", tmp_path / "clients"],
            cwd=ROOT,
            env={**os.environ, "LLM_SERVER_URL": server.url, "LLM_SERVER_KEY": server.key},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stdout[-15_000:]
        assert " passed" in done.stdout
        log = server.log.read_text(errors="replace")
        assert server.key not in log and "Traceback" not in log
