"""Where the training pipeline is, in one line: its latest Dag run, the tasks in it, the job behind them.

It knows no HTTP and no screen.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.connection import Airflow
from cli.output import CommandError
from cli.runs import Run, read_run
from shared import contracts
from shared.airflow import AirflowError

SHOWN_REASONS = 10
PREPARE_ENDS = {"nothing_due": "Nothing is due", "no_knowledge_base": "Nothing can be prepared"}
"""Tasks in which `prepare_examples` ends well although `fine_tune` does not follow."""
ACTIVE_TASKS = frozenset({"running", "deferred", "queued", "up_for_retry", "awaiting_input"})


@dataclass(frozen=True)
class TrainingProgress:
    """`failed` names the Dag that failed last; `decided` says that the last Dag of the chain ended well.

    `idle_after` names the Dag that ended well last, when nothing runs and the chain is not at its end.
    """

    text: str
    failed: str | None = None
    decided: bool = False
    idle_after: str | None = None


def describe_progress(
    training: Airflow, chain: Sequence[str], list_jobs: Callable[[], Iterable[Mapping[str, Any]]]
) -> TrainingProgress:
    """Look once at each Dag of the chain; the job is looked at only while a task waits for it."""
    latest: dict[str, Run] = {}
    for dag_id in chain:
        runs = sorted(map(read_run, training.list_dag_runs(dag_id)), key=lambda run: run.start or "9999")
        if runs:
            latest[dag_id] = runs[-1]
    active = [run for run in latest.values() if not run.is_over]
    if active:
        return TrainingProgress("; ".join(_describe_run(training, run, list_jobs) for run in active))
    if not latest:
        return TrainingProgress("training has not started yet: it waits for the knowledge base")
    last = max(latest.values(), key=lambda run: run.end or "")
    if last.state == "failed":
        return TrainingProgress(f"{last.dag_id} failed", failed=last.dag_id)
    if last.dag_id == chain[-1]:
        return TrainingProgress(f"{last.dag_id} is done", decided=True)
    require_no_blocker(training, [last])
    if end := explain_end(training, last):
        return TrainingProgress(end, idle_after=last.dag_id)
    return TrainingProgress(f"{last.dag_id} is done, the next one is about to start", idle_after=last.dag_id)


def require_no_blocker(training: Airflow, runs: Iterable[Run]) -> None:
    """Raises CommandError, with the reasons, where a run of `fine_tune` found that nothing can be trained."""
    for run in runs:
        if run.dag_id != contracts.FINE_TUNE_DAG or run.state != "success":
            continue
        for task in training.list_task_instances(run.dag_id, run.run_id):
            if task["task_id"] in contracts.TRAINING_BLOCKERS and task["state"] == "success":
                reasons = training.list_log_errors(run.dag_id, run.run_id, task["task_id"])
                prefix = f"{task['task_id']}: "
                shown = "; ".join(reason.removeprefix(prefix) for reason in reasons[:SHOWN_REASONS])
                more = f"; and {len(reasons) - SHOWN_REASONS} more" if len(reasons) > SHOWN_REASONS else ""
                raise CommandError(
                    f"Nothing was trained ({task['task_id']}): {shown}{more}. "
                    "Mend it, then `ghostwriter train start`."
                )


def explain_end(training: Airflow, run: Run) -> str:
    """Why nothing follows a run of `prepare_examples`, in its own words; empty where something does."""
    if run.dag_id != contracts.PREPARE_DAG or run.state != "success":
        return ""
    states = {task["task_id"]: task["state"] for task in training.list_task_instances(run.dag_id, run.run_id)}
    for task_id, meaning in PREPARE_ENDS.items():
        if states.get(task_id) == "success":
            try:
                reason = training.read_xcom(run.dag_id, run.run_id, "prepare", "reason")
            except AirflowError:  # a run of an older version left none
                reason = "the log of prepare says why"
            return f"{meaning}: {reason}"
    return ""


def _describe_run(training: Airflow, run: Run, list_jobs: Callable[[], Iterable[Mapping[str, Any]]]) -> str:
    tasks = list(training.list_task_instances(run.dag_id, run.run_id))
    done = sum(task["state"] in {"success", "skipped"} for task in tasks)
    active = [task for task in tasks if task["state"] in ACTIVE_TASKS]
    text = f"{run.dag_id} {done}/{len(tasks)}"
    if active:
        text += " " + ", ".join(f"{task['task_id']} {task['state']}" for task in active[:3])
    if any(task["state"] == "deferred" for task in active):
        text += "".join(f" · job {describe_job(job)}" for job in list(list_jobs())[:1])
    return text


def describe_job(job: Mapping[str, Any]) -> str:
    """`running: Step 12/48: training loss=2.31`, as far as the provider says."""
    message = job.get("message")
    return f"{job['status']}: {message}" if message else str(job["status"])
