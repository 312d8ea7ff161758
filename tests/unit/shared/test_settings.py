"""Where secrets come from: their files, a variable with our prefix, and nothing else."""

import json
import os
from pathlib import Path

import pytest

from cli.connection import load_settings
from shared.secret_files import SecretError
from shared.settings import Secrets, Settings
from stack.config import load_config
from stack.declarations import build_settings, declare
from stack.secrets import AIRFLOWS, GENERATORS, ensure_secrets

PLAIN_NAMES = {
    *(name.upper() for name in GENERATORS),
    *(f"{name.upper()}_AIRFLOW_PASSWORDS" for name in AIRFLOWS),
    "API_KEY", "PASSWORD", "SECRET_KEY", "FERNET_KEY", "JWT_SECRET",
    "OPENAI_API_KEY", "HF_TOKEN", "PGPASSWORD", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
}  # fmt: skip


def read_all(settings: Settings) -> dict[str, str]:
    return {name: getattr(settings.secrets, name).get_secret_value() for name in Secrets.model_fields}


@pytest.fixture
def secrets_dir(tmp_path: Path) -> Path:
    ensure_secrets(tmp_path / "secrets")
    return tmp_path / "secrets"


@pytest.mark.parametrize("spell", [str.upper, str.lower])
def test_variables_of_plain_names_change_nothing(
    secrets_dir: Path, monkeypatch: pytest.MonkeyPatch, spell: type[str]
) -> None:
    expected = read_all(Settings(secrets_dir=secrets_dir))
    assert expected == {name: (secrets_dir / name).read_text() for name in Secrets.model_fields}
    for name in PLAIN_NAMES:
        monkeypatch.setenv(spell(name), "garbage")
    environ = {**os.environ, "STATE_DIR": str(secrets_dir.parent), "GHOSTWRITER_CACHE_DIR": str(secrets_dir)}
    assert read_all(Settings(secrets_dir=secrets_dir)) == expected
    assert read_all(load_settings(environ)) == expected
    assert expected["ledger_db_password"] in load_settings(environ).ledger_dsn
    config = load_config(environ)
    assert "garbage" not in json.dumps([build_settings(config), [dict(one.env) for one in declare(config)]])
    assert read_all(Settings(secrets_dir=secrets_dir / "none")) == dict.fromkeys(expected, "")


@pytest.mark.parametrize("name", Secrets.model_fields)
def test_a_variable_with_our_prefix_wins_over_the_file(
    secrets_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = Settings(secrets_dir=secrets_dir)
    expected = read_all(settings)
    monkeypatch.setenv(f"GHOSTWRITER_{name.upper()}", "")
    assert read_all(settings) == expected
    monkeypatch.setenv(f"GHOSTWRITER_{name.upper()}", "mine")
    assert read_all(settings) == {**expected, name: "mine"}


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"sk-1\n", "sk-1"),
        (b"  sk-1 \r\n", "sk-1"),
        (b"\xef\xbb\xbfsk-1", "sk-1"),
        ("pässword".encode(), "pässword"),
    ],
)
def test_white_space_around_a_secret_is_no_part_of_it(secrets_dir: Path, content: bytes, secret: str) -> None:
    (secrets_dir / "llm_api_key").write_bytes(content)
    assert read_all(Settings(secrets_dir=secrets_dir))["llm_api_key"] == secret
    assert load_config({"STATE_DIR": str(secrets_dir.parent)}).secret("llm_api_key") == secret


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n"])
def test_an_empty_file_is_no_secret_and_a_new_one_is_generated(secrets_dir: Path, content: bytes) -> None:
    (secrets_dir / "admin_password").write_bytes(content)
    assert read_all(Settings(secrets_dir=secrets_dir))["admin_password"] == ""
    with pytest.raises(SecretError, match=r"admin_password is missing or empty: make up"):
        load_config({"STATE_DIR": str(secrets_dir.parent)}).secret("admin_password")
    assert set(ensure_secrets(secrets_dir)) == {
        "admin_password", "ingest_airflow_passwords", "training_airflow_passwords",
    }  # fmt: skip
    assert len(read_all(Settings(secrets_dir=secrets_dir))["admin_password"]) > 10


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"sk-\xff\xfe", "no UTF-8"), (b"sk-1\nsk-2\n", "more than one line"), (None, "directory")],
)
def test_a_file_that_holds_no_secret_is_named_and_not_shown(
    secrets_dir: Path, content: bytes | None, reason: str
) -> None:
    path = secrets_dir / "llm_api_key"
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    for read in (
        lambda: Settings(secrets_dir=secrets_dir).secrets,
        lambda: load_config({"STATE_DIR": str(secrets_dir.parent)}).secret("llm_api_key"),
        lambda: ensure_secrets(secrets_dir),
    ):
        with pytest.raises(SecretError, match=rf"(?i)llm_api_key.*{reason}") as caught:
            read()
        assert "sk-" not in str(caught.value)


def test_a_source_is_told_its_own_secrets_alone(secrets_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is declared in content could otherwise send any secret anywhere."""
    (secrets_dir / "sources").mkdir()
    (secrets_dir / "sources" / "s3_docs").write_text("id:key\n")
    settings = Settings(secrets_dir=secrets_dir)
    assert settings.find_source_secret("s3_docs") == "id:key"
    for name in ("other", "llm_api_key", "../llm_api_key", "/etc/passwd", "", "S3_DOCS"):
        assert settings.find_source_secret(name) == ""
    monkeypatch.setenv("GHOSTWRITER_SOURCE_S3_DOCS", "from:variable")
    assert settings.find_source_secret("s3_docs") == "from:variable"
