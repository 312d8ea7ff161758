"""The LLM server on engines without a model: `python -m tests.clients.fake_server`.

Its trainer is a few lines, too. For quick runs; what the models make of a request is not shown here.
"""

import os
import sys
from pathlib import Path
from typing import Any

from deployments.llm.engines import fakes, registry
from deployments.llm.engines.roles import Engines


def build_fakes(*_: Any, **__: Any) -> Engines:
    """Fakes in all roles, with the context of the bundled model; never ready where FAKE_LOADING is set."""
    loads = not os.environ.get("FAKE_LOADING")
    chat = fakes.FakeChatEngine(ready=loads, context=2048, max_queue=10**9)  # it counts those that ended, too
    return Engines(
        chat, fakes.FakeScoringEngine(chat), fakes.FakeEmbeddingEngine(ready=loads), fakes.FakeRerankEngine()
    )


if __name__ == "__main__":
    registry.build_engines = build_fakes  # before the server's own module takes it
    os.environ["GHOSTWRITER_LLM_TRAINER_PYTHON"] = str(Path(__file__).with_name("fake_trainer.py"))
    sys.argv[0] = "deployments.llm"
    from deployments.llm.__main__ import main

    main()
