"""One Dockerfile per deployment: linted, pinned, non-root, and holding that deployment and shared/ alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DEPLOYMENTS = sorted(path.parent.name for path in ROOT.glob("deployments/*/pyproject.toml"))
each_deployment = pytest.mark.parametrize("name", DEPLOYMENTS)


def read_instructions(name: str) -> list[str]:
    text = (ROOT / "deployments" / name / "Dockerfile").read_text()
    return re.sub(r"\\\n\s*", " ", text).splitlines()


def test_there_are_five() -> None:
    assert DEPLOYMENTS == ["ingest", "lineage", "llm", "serving", "training"]


@each_deployment
def test_hadolint(name: str) -> None:
    tool = Path(sys.executable).with_name("hadolint")
    if not tool.exists():
        pytest.skip("hadolint can't be had on this platform")
    done = subprocess.run(
        [tool, "--no-color", ROOT / "deployments" / name / "Dockerfile"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


@each_deployment
def test_holds_itself_and_shared_alone(name: str) -> None:
    copied = {
        source
        for line in read_instructions(name)
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    }
    requirements = {f"requirements/{name}.txt", "requirements/uv.txt"} | (
        {"requirements/trainer.txt", "requirements/torch.txt"} if name == "llm" else set()
    )
    assert copied == requirements | {"shared", "deployments/__init__.py", f"deployments/{name}"}


@each_deployment
def test_installs_with_hashes_and_runs_without_rights(name: str) -> None:
    lines = read_instructions(name)
    installs = [part for line in lines for part in re.findall(r"pip (?:install|sync)[^&;]*", line)]
    assert any(part.startswith("pip sync") for part in installs)
    assert all("--require-hashes" in part or "--torch-backend" in part for part in installs)
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000"]
    assert all(":" in line.split()[1] for line in lines if line.startswith("FROM"))


def test_the_build_context_holds_no_state() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule for rule in rules if rule.startswith("!")} == {"!shared", "!deployments", "!requirements"}
