"""The command line's composition root: which stack it talks to, and a client for each component it asks.

It knows no command.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import typer
from pydantic import ValidationError

from cli.jobs import list_jobs
from cli.output import CommandError
from cli.serving import ServingClient
from shared.airflow import AirflowApi
from shared.registry.mlflow import MlflowRegistry
from shared.registry.port import ModelRegistry
from shared.settings import Settings
from stack.config import load_config, plan_no_proxy
from stack.operations import get_settings

PREFIX = "GHOSTWRITER_"


class Airflow(Protocol):
    """What commands ask of one Airflow deployment; `shared.airflow.AirflowApi` is one."""

    def list_dag_runs(self, dag_id: str, /) -> Iterable[Mapping[str, Any]]: ...

    def list_task_instances(self, dag_id: str, run_id: str, /) -> Iterable[Mapping[str, Any]]: ...

    def explain_failure(self, dag_id: str, run_id: str, /) -> str: ...

    def list_log_errors(self, dag_id: str, run_id: str, task_id: str, /) -> list[str]: ...

    def read_xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", /) -> Any: ...

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, /) -> str: ...

    def withdraw(self, dag_id: str, run_id: str, /) -> Any: ...

    def post_asset_event(self, asset_uri: str, extra: dict[str, Any], /) -> Any: ...

    def unpause(self, dag_id: str, /) -> Any: ...

    def pause(self, dag_id: str, /) -> Any: ...


@dataclass(frozen=True)
class Connection:
    """Clients of one running system; none of them connects before it is used."""

    settings: Settings
    serving: ServingClient
    ingest: Airflow
    training: Airflow
    registry: ModelRegistry
    list_jobs: Callable[[], list[dict[str, Any]]]
    """The newest fine-tuning job with the message of its newest event; empty where the provider tells nothing."""


def get_connection(ctx: typer.Context) -> Connection:
    """The connection of this command; made at first use, so that `--help` needs nothing."""
    root = ctx.find_root()
    if root.obj is None:
        # MLflow's client has no setting for it: no proxy of the shell stands before this machine.
        os.environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), plan_no_proxy(os.environ))
        root.obj = connect(load_settings(os.environ))
    return root.obj


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of what runs in STATE_DIR, else of what a start would run; a GHOSTWRITER_* variable wins."""
    try:
        values = get_settings(load_config(environ))
    except ValueError as error:
        raise CommandError(str(error)) from error
    values |= {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
    fields = {name.removeprefix(PREFIX).lower(): value for name, value in values.items()}
    try:
        return Settings(**{name: value for name, value in fields.items() if name in Settings.model_fields})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise CommandError(f"{name}={first['input']!r}: {first['msg']}") from error


def connect(settings: Settings) -> Connection:
    """Clients for the system that the settings describe."""
    secrets = settings.secrets
    user, password = settings.admin_user, secrets.admin_password.get_secret_value()
    return Connection(
        settings=settings,
        serving=ServingClient(settings.serving_url, user, password, timeout=settings.request_timeout),
        ingest=AirflowApi(settings.ingest_url, user, password),
        training=AirflowApi(settings.training_url, user, password),
        registry=MlflowRegistry(settings.mlflow_url, max_retries=1),
        list_jobs=partial(list_jobs, settings.llm_base_url, secrets.llm_api_key.get_secret_value()),
    )
