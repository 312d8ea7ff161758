"""The arm of one connector in the ingest Dag: batches → extract → load, the last two mapped over the batches.

Which sources a connector has, and what is in a batch, is known when it runs; the arms are those of the code.
"""

from typing import Any, Final

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Asset, TaskGroup, get_current_context, task, task_group

from deployments.ingest.errors import KnowledgeError, OvertakenError
from shared import contracts
from shared.llm.port import LlmRefusedError
from shared.orchestration.failures import fails_at_once
from shared.orchestration.recording import record_lineage
from shared.settings import get_settings

MAP_INDEX = "{{ map_index_name }}"
TITLES: Final = {
    "folder": "🗂️ Folders",
    "git": "🌿 Git",
    "filesystem": "🪣 Object stores",
    "website": "🌐 Web sites",
    "uploads": "📤 Uploads",
}
"""What arms are called; one that is not here is called as its connector is."""


def build_arm(connector: str, documents: Asset, chunks: Asset) -> TaskGroup:
    """The tasks of a connector."""
    with TaskGroup(group_id=connector, group_display_name=TITLES.get(connector, connector)) as arm:

        @task(task_display_name="📦 Batches")
        @fails_at_once(KnowledgeError)
        def batches(run_id: str) -> list[Any]:
            """What the plan has for this connector."""
            from deployments.ingest import composition, tasks

            with composition.build_ingest(get_settings()) as ingest:
                return list(tasks.list_batches(ingest, run_id, connector))

        @task_group(group_id="batches", prefix_group_id=False)
        def write(batch: Any) -> None:
            @task(
                task_id=f"{connector}.extract", task_display_name="📄 Extract", map_index_template=MAP_INDEX
            )
            @fails_at_once(KnowledgeError, OvertakenError)
            def extract(batch: Any) -> dict[str, Any]:
                from deployments.ingest import composition, tasks

                with composition.build_ingest(get_settings()) as ingest:
                    return dict(tasks.extract(ingest, name_map_index(batch), batch))

            @task(
                task_id=f"{connector}.load",
                task_display_name="🧲 Load",
                map_index_template=MAP_INDEX,
                inlets=[documents],
                outlets=[chunks],
            )
            @fails_at_once(KnowledgeError, OvertakenError, LlmRefusedError)
            def load(batch: Any) -> dict[str, int]:
                from deployments.ingest import composition, tasks

                with composition.build_ingest(get_settings()) as ingest:
                    done = tasks.load(ingest, name_map_index(batch), batch)
                record_lineage(
                    inputs={contracts.DOCUMENTS: {"row_count": batch["documents"]}},
                    outputs={contracts.CHUNKS: {"row_count": done["written"]}},
                    run={"source": batch["source"], **done},
                )
                return done

            load(extract(batch))

        write.expand(batch=batches())
    return arm


def name_map_index(batch: Any) -> str:
    """Shows the batch's label in place of the task's map index; the id of the run."""
    context = get_current_context()
    context["map_index_name"] = batch["label"]
    return str(context["run_id"])


def ask_about_removals(problems: Any) -> None:
    """A run of `approve_removals` for each removal that waits, named after it: one, however often it is asked for."""
    TriggerDagRunOperator.partial(
        task_id="ask_about_removals",
        task_display_name="🙋 Ask about removals",
        trigger_dag_id=contracts.APPROVE_REMOVALS_DAG,
        skip_when_already_exists=True,
    ).expand_kwargs(problems)
