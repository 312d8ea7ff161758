"""The fakes keep the engines' contract."""

from pathlib import Path

import pytest

from deployments.llm.engines.fakes import FakeChatEngine
from tests.unit.llm.conftest import fake_engines
from tests.unit.llm.engine_contract import CHECKS, CONTEXT, DEFAULT_MAX_TOKENS, Subject


@pytest.mark.parametrize("name", CHECKS)
def test_the_fakes(name: str, tmp_path: Path) -> None:
    chat = FakeChatEngine(context=CONTEXT, default_max_tokens=DEFAULT_MAX_TOKENS)
    engines = fake_engines(chat)
    engines.load()
    CHECKS[name](Subject(chat, engines.scoring, engines.embedding, engines.rerank, tmp_path))
