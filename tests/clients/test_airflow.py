"""Airflow: `@task.llm` of the common.ai provider and OpenAIHook, in a Dag that runs against the server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.contracts import LOCAL_CHAT_MODEL, LOCAL_EMBEDDING_MODEL
from tests.clients.conftest import Server
from tests.llm_server import ROOT

DAGS = Path(__file__).with_name("dags")


@pytest.fixture(scope="module")
def results(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each task of the Dag returned."""
    home = tmp_path_factory.mktemp("airflow")
    ai = {
        "conn_type": "pydanticai",
        "host": server.base_url,
        "password": server.key,
        "extra": {"model": f"openai-chat:{LOCAL_CHAT_MODEL}"},
    }
    hook = {"conn_type": "openai", "host": server.base_url, "password": server.key}
    bundles = [
        {
            "name": "clients",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(DAGS)},
        }
    ]
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW_CONN_GHOSTWRITER_LLM": json.dumps(ai),
        "AIRFLOW_CONN_OPENAI_GHOSTWRITER": json.dumps(hook),
        "CLIENTS_CHAT_MODEL": LOCAL_CHAT_MODEL,
        "CLIENTS_EMBEDDING_MODEL": LOCAL_EMBEDDING_MODEL,
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.clients.airflow_run"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["state"].endswith("success"), (done.stdout + done.stderr)[-6000:]
    assert server.key not in done.stdout + done.stderr
    results: dict[str, Any] = found["results"]
    return results


def test_task_llm_writes(results: dict[str, Any]) -> None:
    assert isinstance(results["write"], str) and results["write"]


def test_task_llm_keeps_to_a_schema(results: dict[str, Any]) -> None:
    assert results["report"]["sky"] in ("sun", "rain") and isinstance(results["report"]["cold"], bool)


def test_the_hook_does_what_it_can(results: dict[str, Any]) -> None:
    found = results["use_hook"]
    assert found["connection"] and found["listed"] and found["job"] == "cancelled"
    assert len(set(found["vectors"])) == 1 and found["vectors"][0] > 1
    assert found["chat"] and found["response"]
