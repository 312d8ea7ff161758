"""What holds for the repository as a whole: packages, licence, scripts, and nothing that points outside."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("cli", "deployments", "shared", "stack")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def list_files() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def read_modules() -> list[Path]:
    return [
        path for path in list_files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in PACKAGES
    ]


def test_what_is_installed_is_held_to_hashes() -> None:
    """Exceptions: our own package, and torch's build for the machine from torch's own index."""
    bootstrap = (ROOT / "stack" / "bootstrap.sh").read_text().replace("\\\n", " ")
    commands = re.findall(r"pip (?:install|sync)\b[^\n;]*", bootstrap)
    loose = [line for line in commands if "--require-hashes" not in line]
    assert len(commands) > 4
    assert all("--editable ." in line or "--torch-backend" in line for line in loose), loose
    locks = re.findall(r"requirements/\w+\.txt", bootstrap)
    for name in {*locks, "requirements/go.txt", "requirements/java.txt"}:
        pinned = [line for line in (ROOT / name).read_text().splitlines() if re.match(r"[\w.-]+[=]=", line)]
        assert pinned and all(line.rstrip().endswith("\\") for line in pinned), name


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {path.parent for path in read_modules()}
    missing = sorted(
        str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()
    )
    # Alembic and Airflow load these files by path.
    assert [name for name in missing if not name.endswith(("migrations/versions", "dags", "plugins"))] == []


def test_modules_say_what_they_are_and_stay_small() -> None:
    for path in read_modules():
        text = path.read_text()
        if text.strip() and "migrations/versions" not in str(path):
            assert text.lstrip().startswith('"""'), f"{path} has no docstring"
        assert len(text.splitlines()) <= 350, f"{path} is two things"


@pytest.mark.parametrize("word", ["utils", "helpers", "common", "manager"])
def test_no_module_is_called_by_a_word_that_says_nothing(word: str) -> None:
    assert [path for path in read_modules() if word in path.stem.split("_")] == []


def test_dag_files_are_short() -> None:
    for path in ROOT.glob("deployments/*/dags/*.py"):
        assert len(path.read_text().splitlines()) <= 80, path


def test_nothing_points_at_one_machine_or_registry() -> None:
    outside = re.compile(
        r"\.\./shared/|files\.pythonhosted\.org|https?://pypi\.org/simple|--index-url[ =]http"
    )
    for path in list_files():
        if path.suffix in {".png", ".jpg"} or path == Path(__file__):
            continue
        found = outside.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path}: {found and found.group()}"


def test_licence_and_the_files_that_users_expect() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
    assert len(licence.splitlines()) >= 200
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", ".pre-commit-config.yaml"):
        assert (ROOT / name).is_file(), name


def test_ci_runs_the_whole_suite() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True, timeout=10)


def test_every_deployment_has_its_own_locked_environment() -> None:
    for folder in (ROOT / "deployments").iterdir():
        if (folder / "pyproject.toml").is_file():
            assert "--hash=sha256:" in (ROOT / "requirements" / f"{folder.name}.txt").read_text()
