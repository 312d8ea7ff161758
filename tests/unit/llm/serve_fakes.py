"""A server on fake engines in a process of its own: `python -m tests.unit.llm.serve_fakes PORT STATE DRAIN_SECONDS`.

Each word of an answer takes a while, and so do each batch of vectors and each piece of a file.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from deployments.llm.app import create_app
from deployments.llm.engines.fakes import FakeChatEngine, FakeEmbeddingEngine
from deployments.llm.engines.ports import Embeddings, Tokens
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.server import Running, Server, build_config
from deployments.llm.settings import LlmSettings
from deployments.llm.uploads import FileObject, FileStore
from shared.log_lines import write_log
from tests.unit.llm.conftest import KEY, fake_engines

_PACE = 0.02


class SlowEmbeddings(FakeEmbeddingEngine):
    """Takes its time for each batch."""

    def embed(self, model: str, inputs: Sequence[str | Tokens]) -> Embeddings:
        time.sleep(0.1)
        return super().embed(model, inputs)


class SlowContent(BytesIO):
    """Is read in small pieces that take their time."""

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(0.1)
        return super().read(min(2**16, size or 2**16))


class SlowFiles(FileStore):
    """Its disk is slow."""

    def add(
        self,
        content: BinaryIO,
        filename: str,
        purpose: str,
        file_id: str | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> FileObject:
        return super().add(SlowContent(content.read()), filename, purpose, file_id, check)


def main() -> None:
    """Serves until it is told to stop."""
    port, state, seconds = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    write_log("INFO")
    gate = threading.Semaphore(0)

    def pace() -> None:
        while True:
            time.sleep(_PACE)
            gate.release(40)

    threading.Thread(target=pace, daemon=True).start()
    files, jobs = SlowFiles(state / "files"), JobStore(state / "jobs")
    engines = fake_engines(FakeChatEngine(context=100_000, default_max_tokens=50_000, gate=gate))
    runner = JobRunner(
        jobs, files, engines.chat, command=[sys.executable], environment=None, emit=lambda *_: None
    )
    running = Running()
    app = create_app(
        LlmSettings(),
        replace(engines, embedding=SlowEmbeddings()),
        api_key=KEY,
        files=files,
        jobs=jobs,
        runner=runner,
        running=running,
        state=state,
    )
    settings = LlmSettings(llm_port=port, log_level="WARNING")
    Server(build_config(app, settings, running), running, seconds).run()


if __name__ == "__main__":
    main()
