"""A stack's configuration in a temporary folder, with its secrets."""

from pathlib import Path

import pytest

from stack.config import StackConfig, load_config
from stack.secrets import ensure_secrets


@pytest.fixture
def stack_config(tmp_path: Path) -> StackConfig:
    config = load_config(
        {"STATE_DIR": str(tmp_path / "state"), "GHOSTWRITER_CACHE_DIR": str(tmp_path / "cache")}
    )
    ensure_secrets(config.secrets_dir)
    return config
