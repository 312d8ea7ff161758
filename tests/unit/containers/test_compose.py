"""docker-compose.yml: valid, local only, non-root, healthy before what needs it, no secret inside."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "docker-compose.yml"
DOCUMENT: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
ONE_SHOT = {"volumes", "ledger-migrate", "mlflow-migrate", "ingest-migrate", "training-migrate"}
OURS = {"ingest", "training", "llm", "serving", "lineage"}
each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def test_schema() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", COMPOSE], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_service
def test_nothing_is_published_beyond_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port), port


@each_service
def test_runs_as_a_user_without_rights(name: str) -> None:
    service = SERVICES[name]
    if name == "volumes":  # gives fresh volumes to that user, and ends
        assert service["network_mode"] == "none"
        assert service["cap_add"] == ["CHOWN"]
        return
    assert service["user"] == "${GHOSTWRITER_UID:-1000}:${GHOSTWRITER_GID:-1000}"
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")


@each_service
def test_every_service_that_stays_says_whether_it_is_healthy(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) == (name not in ONE_SHOT)


@each_service
def test_waits_for_readiness_not_for_a_start(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if needed in ONE_SHOT else "service_healthy"
        assert how["condition"] == wanted, needed


@each_service
def test_gets_every_secret_it_reads_from_a_file(name: str) -> None:
    service = SERVICES[name]
    granted = set(service.get("secrets", []))
    assert granted <= set(DOCUMENT["secrets"])
    read = set(re.findall(r"/run/secrets/(\w+)", yaml.safe_dump(service, width=10**6)))
    assert read <= granted
    for variable, value in (service.get("environment") or {}).items():
        if re.search(r"PASSWORD|SECRET|_KEY|TOKEN(?!S)", variable):
            assert value.startswith("/"), f"{variable} is to be the path of a file"


def test_secrets_are_files_of_the_state_folder() -> None:
    for name, secret in DOCUMENT["secrets"].items():
        assert secret == {"file": f"${{STATE_DIR:-./.state}}/secrets/{name}"}


@each_service
def test_images_are_pinned(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert image
    assert re.search(r"\d", tag), f"{name} runs {tag!r}: name a version"


def test_databases_are_made_for_everyone_who_has_a_password() -> None:
    script = (ROOT / "containers" / "create-databases.sh").read_text()
    (names,) = re.findall(r"^for name in (.+); do$", script, flags=re.M)
    granted = {
        secret.removesuffix("_db_password")
        for secret in SERVICES["postgres"]["secrets"]
        if secret.endswith("_db_password")
    }
    assert set(names.split()) == granted
