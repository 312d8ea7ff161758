"""The fake keeps the engine's contract."""

from pathlib import Path

import pytest

from deployments.llm.engine.fake import FakeEngine
from tests.unit.llm.engine_contract import CHECKS, CONTEXT, DEFAULT_MAX_TOKENS, Subject


@pytest.mark.parametrize("name", CHECKS)
def test_the_fake(name: str, tmp_path: Path) -> None:
    engine = FakeEngine(context=CONTEXT, default_max_tokens=DEFAULT_MAX_TOKENS)
    engine.load()
    CHECKS[name](Subject(engine, tmp_path))
