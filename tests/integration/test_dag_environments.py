"""All Dags import in an environment that holds only what their deployment declares."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared import contracts
from tests.postgres_server import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LIST_DAGS = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
for file, error in bag.import_errors.items():
    print("ERROR", file, error)
print("DAGS", *sorted(bag.dags))
"""


def find_uv() -> str:
    cache = Path(os.environ.get("GHOSTWRITER_CACHE_DIR") or Path.home() / ".cache" / "ghostwriter")
    return shutil.which("uv") or str(cache / "uv" / "bin" / "uv")


@pytest.mark.parametrize(
    ("deployment", "dags"), [("ingest", contracts.INGEST_DAGS), ("training", contracts.TRAINING_DAGS)]
)
def test_dags_import_with_their_own_dependencies(
    tmp_path: Path, deployment: str, dags: tuple[str, ...]
) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    requirements = ROOT / "requirements" / f"{deployment}.txt"
    subprocess.run(
        [find_uv(), "venv", "-q", "--python", sys.executable, str(tmp_path / "venv")], check=True, timeout=60
    )
    subprocess.run(
        [find_uv(), "pip", "sync", "-q", "--python", str(python), "--require-hashes", str(requirements)],
        check=True,
        timeout=600,
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "GHOSTWRITER_CONTENT_DIR": str(ROOT / "content"),
    }
    folder = ROOT / "deployments" / deployment / "dags"
    done = subprocess.run(
        [str(python), "-c", LIST_DAGS, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "ERROR" not in done.stdout, done.stdout
    assert f"DAGS {' '.join(sorted(dags))}" in done.stdout, done.stderr[-2000:]
