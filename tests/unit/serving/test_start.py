"""`python -m deployments.serving`: when it doesn't start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.serving.__main__ import main
from shared.settings import get_settings


@pytest.fixture(autouse=True)
def fresh_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GHOSTWRITER_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("GHOSTWRITER_CONTENT_DIR", str(tmp_path / "nothing"))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
def test_no_desk_without_a_password_where_others_reach_it(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("GHOSTWRITER_SERVING_HOST", host)
    with pytest.raises(SystemExit, match="admin_password"):
        main()


def test_on_loopback_it_goes_on_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GHOSTWRITER_SERVING_HOST", "127.0.0.1")
    with pytest.raises(SystemExit, match=r"voice\.toml"):
        main()
