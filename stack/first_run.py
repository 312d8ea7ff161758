"""What a fresh system still lacks when all its components are healthy: its Dags at work, and its knowledge ingested.

It knows the deployments by their interfaces alone, and not how they are run.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shared import contracts
from shared.airflow import AirflowApi, AirflowError
from stack.config import StackConfig
from stack.report import Report
from stack.stamps import adopt, get_stamp

DAGS = {"ingest": contracts.INGEST_DAGS, "training": contracts.TRAINING_DAGS}
PARSE_SECONDS = 120
INGESTION_SECONDS = 900
GRACE_SECONDS = 3.0
"""Time in which an unpaused Dag that is due starts a run by itself."""


class FirstRunError(RuntimeError):
    """The system is up and healthy, but its first work failed; the message says what to do."""


def connect(config: StackConfig, deployment: str) -> AirflowApi:
    """The Airflow of a deployment, as admin."""
    url = f"http://127.0.0.1:{config.ports[f'{deployment.upper()}_PORT']}"
    return AirflowApi(url, "admin", config.secret("admin_password"))


def unpause_dags(config: StackConfig, deployment: str, report: Report) -> list[str]:
    """Unpause each Dag once in its life here; a Dag that someone paused later stays paused."""
    record = adopt(config.state_dir, f"{deployment}-unpaused", deployment)
    known = _read_lines(record)
    fresh = [dag for dag in DAGS[deployment] if dag not in known and dag not in contracts.MANUAL_DAGS]
    if not fresh:
        return []
    airflow = connect(config, deployment)
    deadline = time.monotonic() + PARSE_SECONDS
    for dag in fresh:
        _wait_until_parsed(airflow, lambda dag=dag: airflow.unpause(dag), dag, deadline)  # type: ignore[misc]
    airflow.close()
    record.write_text("\n".join([*known, *fresh]) + "\n", encoding="utf-8")
    report.say(f"{deployment}: Dags at work: {', '.join(fresh)}")
    return fresh


def _wait_until_parsed(airflow: AirflowApi, act: Callable[[], None], dag: str, deadline: float) -> None:
    while True:
        try:
            act()
        except AirflowError as error:
            if time.monotonic() > deadline:
                problems = [problem.get("filename", "") for problem in airflow.list_import_errors()]
                cause = f"these files can't be imported: {', '.join(problems)}" if problems else str(error)
                raise FirstRunError(f"the Dag {dag} did not appear at {airflow.base_url}: {cause}") from error
            time.sleep(1)
        else:
            return


def see_first_ingestion(config: StackConfig, report: Report) -> bool:
    """See one ingestion through where none has succeeded yet; returns whether there was something to do."""
    record = get_stamp(config.state_dir, "first-ingestion", "ingest")
    if record.is_file():
        return False
    airflow = connect(config, "ingest")
    began = time.monotonic()
    run_id = _find_or_start_run(airflow)
    if run_id is not None:
        report.say(f"ingesting {config.content_dir / 'knowledge'} (run {run_id})")
        _watch(airflow, run_id, report)
        report.say(f"knowledge ingested in {time.monotonic() - began:.0f} s")
    airflow.close()
    record.touch()
    return run_id is not None


def _find_or_start_run(airflow: AirflowApi) -> str | None:
    """The run to wait for; None where one has succeeded already."""
    deadline = time.monotonic() + GRACE_SECONDS
    while True:
        runs = airflow.list_dag_runs(contracts.INGEST_DAG)
        if any(run["state"] == "success" for run in runs):
            return None
        active = [run["dag_run_id"] for run in runs if run["state"] in {"queued", "running"}]
        if active:
            return str(active[-1])
        if time.monotonic() > deadline:
            return airflow.trigger(contracts.INGEST_DAG)
        time.sleep(0.5)


def _watch(airflow: AirflowApi, run_id: str, report: Report) -> None:
    began = time.monotonic()
    while True:
        state = next(
            (
                run["state"]
                for run in airflow.list_dag_runs(contracts.INGEST_DAG)
                if run["dag_run_id"] == run_id
            ),
            None,
        )
        if state == "success":
            return
        tasks = airflow.list_task_instances(contracts.INGEST_DAG, run_id)
        if state == "failed":
            raise FirstRunError(_explain_failure(airflow, run_id))
        seconds = time.monotonic() - began
        if seconds > INGESTION_SECONDS:
            raise FirstRunError(
                f"the ingestion {run_id} is still {state} after {seconds:.0f} s: see {airflow.base_url}/dags/"
                f"{contracts.INGEST_DAG}, or make logs S=ingest-scheduler; make up waits on"
            )
        report.progress(f"ingesting: {describe_tasks(tasks)} ({seconds:.0f} s)")
        time.sleep(1)


def describe_tasks(tasks: Iterable[dict[str, Any]]) -> str:
    """`7 of 12 tasks done, running: embed`."""
    tasks = list(tasks)
    done = sum(task["state"] in {"success", "skipped"} for task in tasks)
    running = sorted({task["task_id"] for task in tasks if task["state"] == "running"})
    return f"{done} of {len(tasks)} tasks done" + (f", running: {', '.join(running)}" if running else "")


def _explain_failure(airflow: AirflowApi, run_id: str) -> str:
    cause = airflow.explain_failure(contracts.INGEST_DAG, run_id)
    return (
        f"the first ingestion failed{f' in {cause}' if cause else ''}\n  to do: mend the cause, then make up again; "
        f"the run is at {airflow.base_url}/dags/{contracts.INGEST_DAG}/runs/{run_id} (user admin)"
    )


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.is_file() else []
