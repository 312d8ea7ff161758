"""A whole stack for the end-to-end tests: its own state folder, ports and content, started by `make up`.

Set GHOSTWRITER_E2E_STATE_DIR, GHOSTWRITER_CONTENT_DIR and PORT_OFFSET to test a stack that runs already; it is neither
started nor stopped then.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running_stack import ROOT, Airflow, Stack, choose_port_offset

UP_SECONDS = 1500
DOWN_SECONDS = 120


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The stack all tests share; they run in the order of their files."""
    running = os.environ.get("GHOSTWRITER_E2E_STATE_DIR")
    if running:
        content = Path(os.environ["GHOSTWRITER_CONTENT_DIR"])
        yield Stack(Path(running), content, int(os.environ.get("PORT_OFFSET", "0")), started_here=False)
        return
    # Socket paths under the state folder must stay short, and Postgres runs as another user when root starts it.
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    folder.chmod(0o755)
    shutil.copytree(ROOT / "content", folder / "content")
    stack = Stack(folder / "s", folder / "content", choose_port_offset(), started_here=True)
    try:
        started = time.monotonic()
        done = stack.make("up", timeout=UP_SECONDS, check=False)
        stack.up_output, stack.up_seconds = done.stdout + done.stderr, time.monotonic() - started
        if done.returncode != 0:
            pytest.exit(
                f"make up failed after {stack.up_seconds:.0f} s:\n{stack.up_output[-8000:]}", returncode=1
            )
        yield stack
    finally:
        failed = stack.make("down", timeout=DOWN_SECONDS, check=False)
        left = stack.processes()
        for process in left:
            process.kill()
        sys.stderr.write(f"\nmake up took {stack.up_seconds:.0f} s, make down → {failed.returncode}\n")
        if not os.environ.get("GHOSTWRITER_E2E_KEEP"):
            shutil.rmtree(folder, ignore_errors=True)
        assert not left, f"make down left {[(process.pid, process.name()) for process in left]}"


@pytest.fixture(scope="session")
def ingest(stack: Stack) -> Airflow:
    return stack.airflow("ingest")


@pytest.fixture(scope="session")
def training(stack: Stack) -> Airflow:
    return stack.airflow("training")
