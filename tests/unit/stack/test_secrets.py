"""Secrets are made once, private, and enough for every field that the settings name."""

import json
import stat
import sys
from pathlib import Path

import pytest

from shared.settings import Secrets
from stack import postgres
from stack.config import load_config
from stack.secrets import GENERATORS, ensure_secrets


def test_made_once_and_kept(tmp_path: Path) -> None:
    made = ensure_secrets(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(GENERATORS) <= set(made)
    assert ensure_secrets(tmp_path) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_nobody_else_reads_them(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    (tmp_path / "llm_api_key").chmod(0o644)
    ensure_secrets(tmp_path)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_every_secret_of_the_settings_is_generated() -> None:
    assert set(Secrets.model_fields) <= set(GENERATORS)


def test_a_key_of_ones_own_is_kept(tmp_path: Path) -> None:
    (tmp_path / "llm_api_key").write_text("sk-of-another-provider")
    ensure_secrets(tmp_path)
    assert (tmp_path / "llm_api_key").read_text() == "sk-of-another-provider"


def test_airflow_passwords_follow_the_secrets(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    (tmp_path / "admin_password").write_text("changed")
    ensure_secrets(tmp_path)
    passwords = json.loads((tmp_path / "ingest_airflow_passwords").read_text())
    assert passwords == {"admin": "changed", "serving": (tmp_path / "ingest_service_password").read_text()}


def test_jwt_secrets_are_long_and_differ(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    ingest, training = ((tmp_path / f"{name}_jwt_secret").read_text() for name in ("ingest", "training"))
    assert min(len(ingest), len(training)) >= 64 and ingest != training


@pytest.mark.parametrize("name", ["llm_api_key", "ingest_airflow_passwords"])
def test_a_folder_in_the_place_of_a_secret_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"{name} can't be read.*it must be a file of yours"):
        ensure_secrets(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b" \n", b"two\nlines", b"\xff\xfe"])
def test_postgres_says_which_secret_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    ensure_secrets(tmp_path / "secrets")
    path = tmp_path / "secrets" / "postgres_password"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(postgres, "serve", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["stack.postgres", "serve", str(tmp_path), "1"])
    with pytest.raises(SystemExit, match=f"postgres: {path}"):
        postgres.main()


def test_postgres_reads_a_secret_as_everyone_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor has put a byte order mark before it."""
    ensure_secrets(tmp_path / "secrets")
    (tmp_path / "secrets" / "postgres_password").write_text("secret\n", encoding="utf-8-sig")
    seen = []
    monkeypatch.setattr(postgres, "serve", lambda state_dir, port, password: seen.append(password))
    monkeypatch.setattr(sys, "argv", ["stack.postgres", "serve", str(tmp_path), "1"])
    postgres.main()
    assert seen == [load_config({"STATE_DIR": str(tmp_path)}).secret("postgres_password")] == ["secret"]
