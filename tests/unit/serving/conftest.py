from pathlib import Path

import pytest

from tests.fake_desk import FakeWorld, make_world


@pytest.fixture
def world(tmp_path: Path) -> FakeWorld:
    return make_world(tmp_path)
