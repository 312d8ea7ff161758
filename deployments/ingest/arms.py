# mypy: ignore-errors
"""The arm of one source in the ingest Dag, extract → split → prepare → ingest, and the task shells it shares.

It knows no rule; `deployments.ingest.tasks` does the work.
"""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, TaskGroup, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from shared import contracts
from shared.orchestration.recording import record_lineage
from shared.settings import get_settings

if TYPE_CHECKING:
    from deployments.ingest.sync import Outcome

log = logging.getLogger(__name__)

MAP_INDEX = "{{ batch_label }}"


def plan(run_id: str) -> dict[str, int]:
    """The plan's counts; a folder that can't be used fails at once, because trying again won't mend it."""
    from deployments.ingest import tasks
    from deployments.ingest.sources import KnowledgeError

    context = get_current_context()
    accepted = (context["dag_run"].conf or {}).get(contracts.ACCEPT_REMOVALS, [])
    if not isinstance(accepted, list):
        raise AirflowFailException(
            f"`{contracts.ACCEPT_REMOVALS}` is a list of digests, as `ghostwriter knowledge status --json` has them."
        )
    try:
        return tasks.plan(get_settings(), run_id, accepted=accepted, arms=list_arms(context["ti"], run_id))
    except KnowledgeError as error:
        raise AirflowFailException(str(error)) from error


def list_arms(task_instance: Any, run_id: str) -> set[str]:
    """Sources that have tasks in this run; the Dag file may know newer ones, whose tasks join the run too late."""
    states = task_instance.get_task_states(dag_id=task_instance.dag_id, run_ids=[run_id])[run_id]
    return {
        task_id.removesuffix(".extract")
        for task_id, state in states.items()
        if task_id.endswith(".extract") and state != "removed"
    }


def commit(run_id: str) -> "Outcome":
    """What the run came to; incomplete, overtaken or without a plan it fails at once: trying again won't mend it."""
    from deployments.ingest import tasks
    from deployments.ingest.sources import KnowledgeError
    from deployments.ingest.sync import IncompleteSyncError, OvertakenError

    try:
        return tasks.commit(get_settings(), run_id)
    except (KnowledgeError, IncompleteSyncError, OvertakenError) as error:
        raise AirflowFailException(str(error)) from error


def report_problems() -> None:
    """Name every file that could not be used, and every removal that waits; skipped where there is none."""
    from deployments.ingest import tasks

    problems = tasks.list_problems(get_settings())
    if not problems:
        raise AirflowSkipException("every file could be read")
    for problem in problems:
        log.error("%s is not in the knowledge base as it is now: %s", problem.uri, problem.message)


def publish(context: Mapping[str, Any]) -> str | None:
    """Tell training; skipped where that can't be done, because the knowledge stands and the next run publishes it."""
    from deployments.ingest import tasks

    try:
        return tasks.publish(get_settings(), describe_run(context))
    except Exception as error:  # whatever it is, a run that has done its work must not fail for it
        log.error("Not published (%s): %s", type(error).__name__, error)
        log.error(
            "The knowledge base stands; the next run publishes it, and training looks by itself once a day."
        )
        raise AirflowSkipException(f"not published: {error}") from error


def build_arm(source: str, documents: Asset, chunks: Asset) -> TaskGroup:
    """The task group of a source; extract makes batches, each later step is mapped over them and named after them."""

    def start(batch: Mapping[str, Any]) -> str:
        context = get_current_context()
        context["batch_label"] = batch["label"]
        return str(context["run_id"])

    with TaskGroup(group_id=source, group_display_name=f"🗂️ {source}") as arm:

        @task
        def extract(run_id: str) -> list[dict[str, Any]]:
            from deployments.ingest import tasks

            try:
                return tasks.extract(get_settings(), run_id, source)
            except tasks.SourceNotPlannedError as error:
                raise AirflowSkipException(str(error)) from error

        @task(map_index_template=MAP_INDEX)
        def split(batch: dict[str, Any]) -> dict[str, Any]:
            from deployments.ingest import tasks

            tasks.split(get_settings(), start(batch), batch)
            return batch

        @task(map_index_template=MAP_INDEX)
        def prepare(batch: dict[str, Any]) -> dict[str, Any]:
            from deployments.ingest import tasks
            from shared.llm.port import LlmRefusedError

            try:
                tasks.prepare(get_settings(), start(batch), batch)
            except LlmRefusedError as error:
                raise AirflowFailException(str(error)) from error
            return batch

        @task(map_index_template=MAP_INDEX, inlets=[documents], outlets=[chunks])
        def ingest(batch: dict[str, Any]) -> int:
            from deployments.ingest import tasks
            from deployments.ingest.sync import OvertakenError

            try:
                written = tasks.ingest(get_settings(), start(batch), batch)
            except OvertakenError as error:
                raise AirflowFailException(str(error)) from error
            record_lineage(
                inputs={contracts.DOCUMENTS: {"row_count": len(batch["uris"]), "documents": batch["uris"]}},
                outputs={contracts.CHUNKS: {"row_count": written}},
            )
            return written

        ingest.expand(batch=prepare.expand(batch=split.expand(batch=extract())))
    return arm


def describe_run(context: Mapping[str, Any]) -> dict[str, str]:
    """How the consumer's lineage names this run as its cause."""
    run = context["dag_run"]
    return {
        "parentJobNamespace": contracts.INGEST_NAMESPACE,
        "parentJobName": contracts.INGEST_DAG,
        "parentRunId": _lineage_run_id(run),
    }


def _lineage_run_id(run: Any) -> str:
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter

    return OpenLineageAdapter.build_dag_run_id(
        dag_id=run.dag_id, logical_date=run.logical_date or run.run_after, clear_number=run.clear_number
    )
