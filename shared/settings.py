"""The one place where the environment is read for all: addresses, folders and secrets of this installation.

What one server alone is told is in its own `settings`. It knows no rule and builds no client; callers pass its values
down.
"""

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared import contracts
from shared.secret_files import SecretError, read_secret

PREFIX = "GHOSTWRITER_"


class _SecretFiles(SecretsSettingsSource):
    """Files are called as their fields are, without the prefix of the variables."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = Path(str(self.secrets_dir)) / field_name
        return read_secret(path) or None, field_name, False


class Secrets(BaseSettings):
    """One file per secret in `GHOSTWRITER_SECRETS_DIR` (name of the field, mode 0600), or `GHOSTWRITER_<NAME>`.

    The variable wins over the file; an empty one is none, as is an empty file. A variable without the prefix may
    belong to anything else in the shell of a user, and means nothing here.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")

    admin_password: SecretStr = SecretStr("")
    weaviate_api_key: SecretStr = SecretStr("")
    weaviate_reader_key: SecretStr = SecretStr("")
    llm_api_key: SecretStr = SecretStr("")
    ledger_db_password: SecretStr = SecretStr("")
    ingest_service_password: SecretStr = SecretStr("")
    training_service_password: SecretStr = SecretStr("")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The variable, then the file."""
        assert isinstance(file_secret_settings, SecretsSettingsSource)
        return init_settings, env_settings, _SecretFiles(settings_cls, file_secret_settings.secrets_dir)


class Settings(BaseSettings):
    """Every setting is an environment variable `GHOSTWRITER_<NAME>`; the defaults fit `make up`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    state_dir: Path = Path(".state")
    content_dir: Path = Path("content")
    secrets_dir: Path = Path(".state/secrets")

    # The ledger's URL without its password; `ledger_dsn` adds it.
    ledger_url: str = "postgresql+psycopg2://ledger@127.0.0.1:5433/ledger"

    weaviate_host: str = "127.0.0.1"
    weaviate_port: int = 8090
    weaviate_grpc_port: int = 50051

    # Where uploads are kept, and where tasks of one run of ingest leave what the next one needs: a URL that fsspec
    # reaches (file:, s3:). Empty: folders of the state folder.
    uploads_url: str = ""
    handover_url: str = ""

    # Any OpenAI-compatible provider.
    llm_base_url: str = "http://127.0.0.1:8000/v1"
    chat_model: str = contracts.LOCAL_CHAT_MODEL
    embedding_model: str = contracts.LOCAL_EMBEDDING_MODEL
    image_model: str = contracts.LOCAL_IMAGE_MODEL

    # Tokens that a training example may have at a provider that does not tell it by itself; 0: no limit is known.
    max_example_tokens: int = Field(default=0, ge=0)

    mlflow_url: str = "http://127.0.0.1:5001"
    # Each Airflow's own base URL and the service user that other deployments sign in with (role `op`).
    ingest_url: str = "http://127.0.0.1:8080"
    ingest_service_user: str = "serving"
    training_url: str = "http://127.0.0.1:8081"
    training_service_user: str = "ingest"
    serving_url: str = "http://127.0.0.1:7860"
    marquez_url: str = ""
    marquez_web_url: str = ""

    admin_user: str = "admin"

    # OpenLineage events of this process go to `<spool>/<deployment>/events.jsonl`, one JSON object a line.
    lineage_spool_dir: Path = Path(".state/lineage/spool")

    log_level: str = "INFO"
    request_timeout: float = Field(default=120.0, gt=0, description="seconds, for calls between components")

    @property
    def secrets(self) -> Secrets:
        """The secrets of this installation, read afresh (they are small files); raises SecretError."""
        directory = self.secrets_dir if self.secrets_dir.is_dir() else None
        try:
            return Secrets(_secrets_dir=directory)
        except SettingsError as error:
            if isinstance(error.__cause__, SecretError):
                raise error.__cause__ from None
            raise

    @property
    def uploads_root(self) -> str:
        """The URL under which uploads are kept."""
        return self.uploads_url or f"file:{self.state_dir.absolute() / 'uploads'}"

    def find_source_secret(self, name: str) -> str:
        """A secret that a knowledge source is declared with; empty where there is none. Raises SecretError.

        The file `sources/<name>` among the secrets, or `GHOSTWRITER_SOURCE_<NAME>`: what is declared can name no other
        secret of this installation.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            return ""
        return os.environ.get(f"{PREFIX}SOURCE_{name.upper()}") or read_secret(
            self.secrets_dir / "sources" / name
        )

    @property
    def ledger_dsn(self) -> str:
        """SQLAlchemy URL of the ledger, password included: never log it."""
        from sqlalchemy import make_url

        password = self.secrets.ledger_db_password.get_secret_value()
        url = make_url(self.ledger_url)
        if password:
            url = url.set(password=password)
        return url.render_as_string(hide_password=False)


@lru_cache
def get_settings() -> Settings:
    """The process's settings; tests construct `Settings(...)` themselves."""
    return Settings()
