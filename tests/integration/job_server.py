"""The LLM server on the fake engines, as a process of its own: `python -m tests.integration.job_server STATE PORT`.

The trainer is the Python text in STATE/trainer.py.
"""

import sys
from pathlib import Path

import uvicorn

from deployments.llm.app import create_app
from deployments.llm.engines.fakes import (
    FakeChatEngine,
    FakeEmbeddingEngine,
    FakeRerankEngine,
    FakeScoringEngine,
)
from deployments.llm.engines.roles import Engines
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.settings import LlmSettings
from deployments.llm.state_lock import FolderInUseError, lock_folder
from deployments.llm.uploads import FileStore


def main() -> None:
    """Serves until it is ended."""
    state, port = Path(sys.argv[1]), int(sys.argv[2])
    try:
        lock_folder(state)
    except FolderInUseError as error:
        sys.exit(f"llm: {error}")
    chat = FakeChatEngine()
    files, jobs = FileStore(state / "files"), JobStore(state / "jobs")
    command = [sys.executable, "-c", (state / "trainer.py").read_text()]
    runner = JobRunner(jobs, files, chat, command=command, environment=None, emit=lambda *_: None, nice=5)
    engines = Engines(chat, FakeScoringEngine(chat), FakeEmbeddingEngine(), FakeRerankEngine())
    app = create_app(LlmSettings(), engines, api_key="", files=files, jobs=jobs, runner=runner)
    uvicorn.run(app, port=port, log_level="warning")


if __name__ == "__main__":
    main()
