"""The compose file and the local stack have the same components, ports and settings."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.llm.settings import LlmSettings
from deployments.serving.settings import ServingSettings
from shared.settings import Settings
from stack.component import Component
from stack.config import PASSED_ON, StackConfig, load_config
from stack.declarations import build_settings, declare
from stack.ports import DEFAULT_PORTS
from stack.secrets import ensure_secrets

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]

# What only one of the two has, and why.
ONLY_IN_CONTAINERS = {
    "volumes",  # fresh volumes belong to root
    "marquez-web",  # has no Python or Java package to run it from
}
ONLY_LOCAL = {"postgres-databases"}  # the image runs containers/create-databases.sh itself
MAYBE_LOCAL = {"marquez"}  # where its jar can be had
# These stay inside a container; only the local stack has all processes on one host.
INTERNAL_PORTS = {
    "WEAVIATE_GOSSIP_PORT", "WEAVIATE_DATA_PORT", "WEAVIATE_RAFT_PORT", "WEAVIATE_RAFT_RPC_PORT", "MARQUEZ_ADMIN_PORT",
}  # fmt: skip
FOLDERS = {
    "GHOSTWRITER_STATE_DIR",
    "GHOSTWRITER_CONTENT_DIR",
    "GHOSTWRITER_SECRETS_DIR",
    "GHOSTWRITER_LINEAGE_SPOOL_DIR",
}
# Containers listen on their own interface; which port is published says the compose file. Their folder of secrets can't
# be written, so keys that are made are kept elsewhere.
ADDRESSES = re.compile(r"GHOSTWRITER_(LLM|SERVING)_(HOST|PORT)|GHOSTWRITER_LLM_KEYS_FILE")
LLM_SETTINGS: dict[str, str] = DOCUMENT["x-llm-settings"]
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def interpolate(value: str, environment: Mapping[str, str]) -> str:
    """What compose makes of a value that may name variables with defaults."""
    return VARIABLE.sub(lambda found: environment.get(found[1]) or found[2], value)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> StackConfig:
    config = load_config({"STATE_DIR": str(tmp_path_factory.mktemp("state"))})
    ensure_secrets(config.secrets_dir)
    return config


@pytest.fixture(scope="module")
def components(config: StackConfig) -> dict[str, Component]:
    return {component.name: component for component in declare(config)}


def test_component_names(components: dict[str, Component]) -> None:
    assert set(SERVICES) - ONLY_IN_CONTAINERS - MAYBE_LOCAL == set(components) - ONLY_LOCAL - MAYBE_LOCAL
    assert set(SERVICES) >= MAYBE_LOCAL


def test_one_shots(components: dict[str, Component]) -> None:
    local = {name for name, component in components.items() if component.one_shot} - ONLY_LOCAL
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} - {"volumes"} == local


def test_published_ports() -> None:
    published = {
        int(port.split(":")[1]) for service in SERVICES.values() for port in service.get("ports", [])
    }
    local = {port for name, port in DEFAULT_PORTS.items() if name not in INTERNAL_PORTS}
    assert published - {3000} == local


def test_each_component_publishes_its_own_ports(components: dict[str, Component]) -> None:
    for name in set(SERVICES) & set(components):
        published = {int(port.split(":")[1]) for port in SERVICES[name].get("ports", [])}
        own = {port for setting, port in components[name].ports.items() if setting not in INTERNAL_PORTS}
        assert published == own, name


def test_settings(config: StackConfig) -> None:
    local = {name for name in build_settings(config) if name.startswith("GHOSTWRITER_")}
    for name, service in SERVICES.items():
        told = {
            variable: interpolate(str(value), {})
            for variable, value in (service.get("environment") or {}).items()
            if variable.startswith("GHOSTWRITER_") and not ADDRESSES.fullmatch(variable)
        }
        if name == "llm":
            assert told.keys() >= LLM_SETTINGS.keys()
            told = {variable: value for variable, value in told.items() if variable not in LLM_SETTINGS}
        if not told:
            continue
        assert set(told) == local | set(PASSED_ON), name
        for variable, value in build_settings(config).items():
            if variable in told and variable not in FOLDERS:
                host = re.compile(r"\b(?:" + "|".join(map(re.escape, SERVICES)) + r")(?=:\d|$)")
                assert host.sub("127.0.0.1", str(told[variable])) == value or told[variable] == value, (
                    variable
                )


@pytest.mark.parametrize("variable", PASSED_ON)
def test_a_users_own_setting_reaches_the_containers(variable: str) -> None:
    """What the documentation promises for `make up` holds here too: another provider, its models, a log level."""
    fields = {**Settings.model_fields, **LlmSettings.model_fields, **ServingSettings.model_fields}
    default = fields[variable.removeprefix("GHOSTWRITER_").lower()].default
    for name, service in SERVICES.items():
        told = service.get("environment") or {}
        if "GHOSTWRITER_STATE_DIR" not in told:
            continue
        assert interpolate(told[variable], {variable: "mine"}) == "mine", name
        if not variable.endswith(("_URL", "_TIMEOUT")):
            assert interpolate(told[variable], {}) == str(default), name


def test_the_llm_servers_own_settings_are_those_that_the_example_offers() -> None:
    example = (ROOT / ".env.example").read_text()
    offered = set(re.findall(r"^# (GHOSTWRITER_LLM_[A-Z0-9_]+)=", example, flags=re.M))
    assert LLM_SETTINGS.keys() == offered - set(PASSED_ON)
    for variable, value in LLM_SETTINGS.items():
        default = LlmSettings.model_fields[variable.removeprefix("GHOSTWRITER_").lower()].default
        assert interpolate(value, {}) == str(default), variable
        assert interpolate(value, {variable: "mine"}) == "mine", variable


def test_a_users_own_content_reaches_the_containers() -> None:
    mounted = [
        volume
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if ":/content" in volume
    ]
    assert len(mounted) > 2
    for volume in mounted:
        assert interpolate(volume, {}) == "./content:/content:ro"
        assert interpolate(volume, {"GHOSTWRITER_CONTENT_DIR": "/mine"}) == "/mine:/content:ro"


@pytest.mark.parametrize("deployment", ["ingest", "training"])
def test_airflow_settings(deployment: str, components: dict[str, Component]) -> None:
    local = components[f"{deployment}-scheduler"].env
    told = SERVICES[f"{deployment}-scheduler"]["environment"]
    script = (ROOT / "containers" / "airflow.sh").read_text()
    # Folders, hosts and the first unpausing are matters of where it runs.
    elsewhere = re.compile(
        r"FOLDER|HOME$|API__HOST$|EXECUTION_API_SERVER_URL$|TRANSPORT$|PASSWORDS_FILE$|ARE_PAUSED|^AIRFLOW_CONN"
    )
    for variable, value in local.items():
        if not variable.startswith(("AIRFLOW", "MALLOC")):
            continue
        if variable not in told:
            assert f"{variable}=" in script or variable == "AIRFLOW__LOGGING__BASE_LOG_FOLDER", variable
        elif not elsewhere.search(variable):
            assert told[variable] == value, variable


def test_every_secret_is_one_that_make_secrets_generates(config: StackConfig) -> None:
    generated = {path.name for path in config.secrets_dir.iterdir()}
    assert set(DOCUMENT["secrets"]) <= generated


def test_weaviate_has_the_same_settings(components: dict[str, Component]) -> None:
    told = SERVICES["weaviate"]["environment"]
    command = " ".join(SERVICES["weaviate"]["command"])
    for variable, value in components["weaviate"].env.items():
        if variable == "PERSISTENCE_DATA_PATH" or variable.endswith("_PORT"):
            continue
        if variable in told:
            assert told[variable] == value, variable
        else:
            assert f"export {variable}=" in command, variable


def test_versions(components: dict[str, Component]) -> None:
    from stack import weaviate

    assert SERVICES["weaviate"]["image"].endswith(f":{weaviate.VERSION}")
    (mlflow,) = re.findall(r"^mlflow==(\S+)", (ROOT / "requirements" / "main.txt").read_text(), flags=re.M)
    assert f":v{mlflow}" in SERVICES["mlflow"]["image"]


def test_mlflows_database_is_migrated_in_the_same_way(components: dict[str, Component]) -> None:
    (script,) = SERVICES["mlflow-migrate"]["command"]
    assert components["mlflow-migrate"].command[-1] in script
    assert SERVICES["mlflow-migrate"]["image"] == SERVICES["mlflow"]["image"]
    assert SERVICES["mlflow"]["depends_on"]["mlflow-migrate"]["condition"] == "service_completed_successfully"
