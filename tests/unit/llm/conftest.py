"""The application on the fake engine, with a trainer that is a few lines of Python."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from fastapi.testclient import TestClient

from deployments.llm.app import create_app
from deployments.llm.engines.fakes import (
    FakeChatEngine,
    FakeEmbeddingEngine,
    FakeRerankEngine,
    FakeScoringEngine,
)
from deployments.llm.engines.ports import EmbeddingEngine
from deployments.llm.engines.roles import Engines
from deployments.llm.fine_tuning.job import Job
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.keyring import Keyring
from deployments.llm.settings import LlmSettings
from deployments.llm.uploads import FileStore

KEY = "test-key"
QUICK_TRAINER = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[-1])
(folder / "adapter").mkdir()
(folder / "metrics.csv").write_text("step,train_loss\\n1,2.5\\n")
(folder / "result.json").write_text(json.dumps({"trained_tokens": 12}))
"""


class Server(NamedTuple):
    """A running application and what is behind it."""

    client: TestClient
    engine: FakeChatEngine
    jobs: JobStore
    lineage: list[tuple[str, str]]
    run_ids: list[str]
    stop: Callable[[], None]


def fake_engines(chat: FakeChatEngine) -> Engines:
    """Fakes in all roles."""
    return Engines(chat, FakeScoringEngine(chat), FakeEmbeddingEngine(), FakeRerankEngine())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers over one state folder, as restarts do, or over the one given."""
    running: list[ExitStack] = []

    def start_server(
        engine: FakeChatEngine | None = None,
        trainer: str = QUICK_TRAINER,
        state: Path | None = None,
        python: str = sys.executable,
        api_key: str = KEY,
        find_obstacle: Callable[[], str | None] = lambda: None,
        keyring: Keyring | None = None,
        embedding: EmbeddingEngine | None = None,
        timeout: float = 3600,
        **settings: float,
    ) -> Server:
        engine = engine or FakeChatEngine()
        state = state or tmp_path / "state"
        files, jobs = FileStore(state / "files"), JobStore(state / "jobs")
        lineage: list[tuple[str, str]] = []
        run_ids: list[str] = []

        def emit(event_type: str, run_id: str, job: Job) -> None:
            lineage.append((event_type, job.id))
            run_ids.append(run_id)

        command = [python, "-c", trainer]
        engines = fake_engines(engine)
        if embedding:
            engines = replace(engines, embedding=embedding)
        runner = JobRunner(
            jobs,
            files,
            engine,
            command=command,
            environment=None,
            emit=emit,
            find_obstacle=find_obstacle,
            timeout=timeout,
        )
        app = create_app(
            LlmSettings(**settings),
            engines,
            api_key=api_key,
            files=files,
            jobs=jobs,
            runner=runner,
            keyring=keyring,
            state=state,
        )
        engines.load()  # as the application does in the background, so that no test has to wait for it
        client = TestClient(app, headers={"Authorization": f"Bearer {KEY}"}, raise_server_exceptions=False)
        stack = ExitStack()
        stack.enter_context(client)
        running.append(stack)
        return Server(client, engine, jobs, lineage, run_ids, stack.close)

    yield start_server
    for stack in running:
        stack.close()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    """A server whose trainer succeeds at once."""
    return start()
