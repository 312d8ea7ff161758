"""The table of components: names, order, needs, addresses and secrets in the right places."""

import dataclasses
import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from shared.settings import Settings
from stack.component import Component, Unavailable, select
from stack.config import StackConfig
from stack.declarations import build_settings, declare, declare_all
from stack.driver import plan_stop_levels

SERVICES = [
    "postgres", "weaviate", "mlflow", "llm", "ingest-api-server", "ingest-scheduler", "ingest-dag-processor",
    "ingest-triggerer", "training-api-server", "training-scheduler", "training-dag-processor", "training-triggerer",
    "serving", "lineage", "marquez",
]  # fmt: skip
AIRFLOW_SERVICES = {name for name in SERVICES if name.startswith(("ingest-", "training-"))}


def test_the_names_that_info_promises(stack_config: StackConfig) -> None:
    names = [c.name for c in declare_all(stack_config) if isinstance(c, Unavailable) or not c.one_shot]
    assert names == SERVICES


def test_needs_come_before_those_that_need_them(stack_config: StackConfig) -> None:
    seen: set[str] = set()
    for component in declare(stack_config):
        assert seen.issuperset(component.needs), component.name
        seen.add(component.name)


def test_converted_weights_are_kept_with_all_else_that_is_cached(stack_config: StackConfig) -> None:
    (llm,) = (component for component in declare(stack_config) if component.name == "llm")
    assert llm.env["GHOSTWRITER_CACHE_DIR"] == str(stack_config.cache_dir)


def test_every_service_is_probed(stack_config: StackConfig) -> None:
    assert [c.name for c in declare(stack_config) if not c.one_shot and c.probe is None] == []


def test_every_port_has_one_owner(stack_config: StackConfig) -> None:
    config = dataclasses.replace(stack_config, marquez_jar="")
    owned = [name for component in declare(config) for name in component.ports]
    assert len(owned) == len(set(owned))
    assert set(config.ports) - set(owned) <= {"MARQUEZ_PORT", "MARQUEZ_ADMIN_PORT"}


def test_no_secret_stands_on_a_command_line(stack_config: StackConfig) -> None:
    secrets = [path.read_text() for path in stack_config.secrets_dir.iterdir()]
    for component in declare(stack_config):
        assert not any(secret in part for secret in secrets for part in component.command), component.name


def test_a_deployment_brings_what_it_uses_and_nothing_else(stack_config: StackConfig) -> None:
    names = {c.name for c in select(declare(stack_config), frozenset({"ingest"}))}
    assert {"postgres", "ledger-migrate", "weaviate", "llm", "ingest-migrate", "ingest-scheduler"} <= names
    assert not any(name.startswith("training") or name in {"serving", "mlflow", "lineage"} for name in names)


def test_llm_alone_needs_nothing(stack_config: StackConfig) -> None:
    assert [c.name for c in select(declare(stack_config), frozenset({"llm"}))] == ["llm"]


def test_an_unknown_name_is_named_with_the_known_ones(stack_config: StackConfig) -> None:
    with pytest.raises(ValueError, match=r"frontend.*serving"):
        select(declare(stack_config), frozenset({"frontend"}))


def test_another_provider_takes_the_place_of_the_llm_server(stack_config: StackConfig) -> None:
    url = "https://api.example.com/v1"
    config = dataclasses.replace(stack_config, overrides={"GHOSTWRITER_LLM_BASE_URL": url})
    assert "llm" not in {c.name for c in declare(config)}
    assert build_settings(config)["GHOSTWRITER_LLM_BASE_URL"] == url


def test_a_setting_of_the_llm_server_restarts_nothing_else(stack_config: StackConfig) -> None:
    config = dataclasses.replace(stack_config, llm_settings={"GHOSTWRITER_LLM_THREADS": "3"})
    changed = [
        after.name
        for before, after in zip(declare(stack_config), declare(config), strict=True)
        if after != before
    ]
    assert changed == ["llm"]


def test_settings_are_those_that_the_deployments_read(
    stack_config: StackConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = build_settings(stack_config)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    known = {f"GHOSTWRITER_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in values if name.startswith("GHOSTWRITER_")} <= known
    settings = Settings()
    assert settings.state_dir == stack_config.state_dir and settings.state_dir.is_absolute()
    assert settings.secrets.ledger_db_password.get_secret_value() == stack_config.secret("ledger_db_password")


def test_the_two_airflows_share_no_key(stack_config: StackConfig) -> None:
    by_name = {c.name: c for c in declare(stack_config)}
    ingest, training = by_name["ingest-api-server"].env, by_name["training-api-server"].env
    for name in ("CORE__FERNET_KEY", "API__SECRET_KEY", "API_AUTH__JWT_SECRET", "DATABASE__SQL_ALCHEMY_CONN"):
        assert ingest[f"AIRFLOW__{name}"] != training[f"AIRFLOW__{name}"]
    # Training reads the knowledge base and never writes it.
    key = json.loads(training["AIRFLOW_CONN_WEAVIATE_DEFAULT"])["extra"]["token"]
    assert key == stack_config.secret("weaviate_reader_key")


def test_airflows_own_errors_hide_the_values_too(stack_config: StackConfig) -> None:
    for name in ("ingest", "training"):
        (env,) = (c.env for c in declare(stack_config) if c.name == f"{name}-scheduler")
        arguments = json.loads(env["AIRFLOW__DATABASE__SQL_ALCHEMY_ENGINE_ARGS"])
        assert create_engine(env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], **arguments).hide_parameters


def test_dependents_stop_before_what_they_need(stack_config: StackConfig) -> None:
    levels = plan_stop_levels(declare(stack_config))
    depth = {name: index for index, level in enumerate(levels) for name in level}
    assert depth["ingest-scheduler"] < depth["postgres"]
    assert depth["serving"] < depth["weaviate"]
    assert depth["mlflow"] < depth["postgres"]


def test_stopping_a_cycle_free_chain() -> None:
    chain = [Component("a", ()), Component("b", (), needs=("a",)), Component("c", (), uses=("b",))]
    assert plan_stop_levels(chain) == [["c"], ["b"], ["a"]]


def test_a_new_secret_restarts_those_that_read_secrets(stack_config: StackConfig) -> None:
    """Their launch files tell the driver so; supervisor alone would leave them with the old one."""
    before = {component.name: component.env for component in declare(stack_config)}
    (stack_config.secrets_dir / "llm_api_key").write_text("another")
    after = {component.name: component.env for component in declare(stack_config)}
    changed = {name for name in after if after[name] != before[name]}
    assert {"llm", "serving", "lineage", "ingest-scheduler", "training-triggerer"} <= changed


@pytest.mark.parametrize("stray", ["llm_api_key~", ".llm_api_key.swp", ".DS_Store", "notes/old"])
def test_what_else_lies_among_the_secrets_restarts_nothing(stack_config: StackConfig, stray: str) -> None:
    before = declare(stack_config)
    (stack_config.secrets_dir / stray).parent.mkdir(exist_ok=True)
    (stack_config.secrets_dir / stray).write_text("another")
    assert declare(stack_config) == before


def test_every_migration_is_stamped_for_its_database(stack_config: StackConfig) -> None:
    databases = {c.name: c.database for c in declare(stack_config) if c.stamp}
    assert databases == {
        "ledger-migrate": "ledger",
        "mlflow-migrate": "mlflow",
        "ingest-migrate": "ingest",
        "training-migrate": "training",
    }


def test_mlflow_waits_for_the_migration_of_its_database(stack_config: StackConfig) -> None:
    by_name = {c.name: c for c in declare(stack_config)}
    assert by_name["mlflow"].needs == ("mlflow-migrate",)
    assert by_name["mlflow-migrate"].needs == ("postgres-databases",)


@pytest.mark.parametrize(
    ("changed", "restarted"),
    [
        ("requirements/main.txt", {*AIRFLOW_SERVICES, "serving", "lineage"}),
        ("shared/ledger/migrations/0009_more.py", {*AIRFLOW_SERVICES, "serving", "lineage"}),
        ("requirements/llm.txt", {"llm"}),
        ("requirements/trainer.txt", {"llm"}),
        ("requirements/torch.txt", {"llm"}),
        ("pyproject.toml", {*AIRFLOW_SERVICES, "serving", "lineage", "llm"}),
    ],
)
def test_what_runs_an_older_version_is_started_anew(
    stack_config: StackConfig, tmp_path: Path, changed: str, restarted: set[str]
) -> None:
    """The driver stops what is declared otherwise than before, and only then does a migration begin."""
    root = tmp_path / "checkout"
    for path in (
        "pyproject.toml",
        *(f"requirements/{name}.txt" for name in ("main", "llm", "trainer", "torch")),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("one version")
    (root / "shared" / "ledger" / "migrations").mkdir(parents=True)
    config = dataclasses.replace(stack_config, root=root)
    before = {c.name: c for c in declare(config)}
    (root / changed).write_text("another")
    after = {c.name: c for c in declare(config)}
    found = {name for name, c in after.items() if c.env != before[name].env and not c.one_shot}
    assert found == restarted
