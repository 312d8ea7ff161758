"""The LLM server on engines without a model: `python -m tests.clients.fake_server`.

Its trainer is a few lines, too. For quick runs; what the models make of a request is not shown here.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from deployments.llm.engines import fakes, registry
from deployments.llm.engines.roles import Engines


def build_fakes(*_: Any, **__: Any) -> Engines:
    """Fakes in all roles, with the context of the bundled model.

    They are never ready where FAKE_LOADING is set, and write no faster than FAKE_WORDS_PER_SECOND.
    """
    loads, pace = not os.environ.get("FAKE_LOADING"), os.environ.get("FAKE_WORDS_PER_SECOND")
    gate = open_steadily(float(pace)) if pace else None
    # It counts those that ended, too.
    chat = fakes.FakeChatEngine(ready=loads, context=2048, max_queue=10**9, gate=gate)
    return Engines(
        chat, fakes.FakeScoringEngine(chat), fakes.FakeEmbeddingEngine(ready=loads), fakes.FakeRerankEngine()
    )


def open_steadily(per_second: float) -> threading.Semaphore:
    """A gate that lets through so many a second, and no more after a rest."""
    gate = threading.BoundedSemaphore(1)

    def open_gate() -> None:
        while True:
            time.sleep(1 / per_second)
            with suppress(ValueError):
                gate.release()

    threading.Thread(target=open_gate, daemon=True).start()
    return gate


if __name__ == "__main__":
    registry.build_engines = build_fakes  # before the server's own module takes it
    os.environ["GHOSTWRITER_LLM_TRAINER_PYTHON"] = str(Path(__file__).with_name("fake_trainer.py"))
    sys.argv[0] = "deployments.llm"
    from deployments.llm.__main__ import main

    main()
