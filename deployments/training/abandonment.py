"""Tells a person who has given up a task from all else that ends one: a clear, a stopped worker, a restart.

Airflow calls `on_kill` for each of these and does not say which it is. It knows Airflow's states, and no provider.
"""

import logging
from typing import Any

from deployments.training import composition, jobs
from shared.settings import get_settings

log = logging.getLogger(__name__)
MARKS = frozenset({"failed", "success"})
"""States in which nobody waits for the job any more. A clear leaves none, a stopped worker leaves `running`."""


def stop_job_if_given_up(task_instance: Any, job_id: str) -> None:
    """Cancel the job where a person has marked the task that waits for it; else leave it to the task's next try."""
    state = read_state(task_instance)
    if state not in MARKS:
        log.warning("the task is %s: job %s goes on, the next try re-attaches", state or "cleared", job_id)
        return
    log.warning("the task was marked %s: cancelling job %s", state, job_id)
    settings = get_settings()
    jobs.stop_job(
        job_id,
        composition.create_ledger(settings),
        composition.create_tuning(settings),
        composition.create_tracker(settings),
    )


def read_state(task_instance: Any) -> str | None:
    """The task's state in Airflow's database now; None where it was cleared or is gone. Blocks."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=task_instance.dag_id, task_ids=[task_instance.task_id], run_ids=[task_instance.run_id]
    )
    state = states.get(task_instance.run_id, {}).get(task_instance.task_id)
    return None if state is None else str(state)
