"""The arm of one connector in the ingest Dag: scan → plan → extract → load, the last two mapped over batches.

Which sources a connector has and what is in a batch is known when it runs; the arms are those of the code.
"""

import logging
from typing import Any, Final

from airflow.sdk import Asset, TaskGroup, get_current_context, task, task_group

from deployments.ingest import news
from deployments.ingest.composition import build_ingest
from deployments.ingest.errors import KnowledgeError, OvertakenError
from shared import contracts
from shared.llm.port import LlmRefusedError
from shared.orchestration.failures import fails_at_once
from shared.orchestration.recording import record_lineage
from shared.settings import get_settings

log = logging.getLogger(__name__)

MAP_INDEX = "{{ map_index_name }}"
CONNECTORS: Final = {
    "folder": "🗂️ Folders",
    "git": "🌿 Git",
    "filesystem": "🪣 Object stores",
    "website": "🌐 Web sites",
    "uploads": "📤 Uploads",
}
"""A connector's arm and what it is called; `connectors.registry` has the same keys."""


def build_arm(connector: str, plan_rule: str, documents: Asset, chunks: Asset) -> tuple[Any, Any, TaskGroup]:
    """The arm's first task, the one that must wait for all arms' first tasks, and the whole."""
    with TaskGroup(group_id=connector, group_display_name=CONNECTORS[connector]) as arm:

        @task(task_display_name="🔭 Scan")
        @fails_at_once(KnowledgeError)
        def scan(run_id: str) -> dict[str, dict[str, int]]:
            """Lists each source; one that can't be listed is a problem of its own, and keeps its documents."""
            from deployments.ingest import tasks

            with build_ingest(get_settings()) as ingest:
                return tasks.scan_sources(ingest, run_id, connector)

        @task(task_display_name="🗺️ Plan", trigger_rule=plan_rule)
        @fails_at_once(KnowledgeError, OvertakenError)
        def plan(run_id: str) -> list[Any]:
            """What is to be read, in batches; the arm that comes first plans for all of them."""
            from deployments.ingest import tasks

            accepted = news.read_accepted(get_current_context())
            with build_ingest(get_settings()) as ingest:
                return list(tasks.plan_arm(ingest, run_id, connector, accepted=accepted))

        @task_group(group_id="batches", prefix_group_id=False)
        def write(batch: dict[str, Any]) -> None:
            @task(
                task_id=f"{connector}.extract", task_display_name="📄 Extract", map_index_template=MAP_INDEX
            )
            @fails_at_once(KnowledgeError, OvertakenError)
            def extract(batch: Any) -> dict[str, Any]:
                from deployments.ingest import tasks

                with build_ingest(get_settings()) as ingest:
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
                from deployments.ingest import tasks

                with build_ingest(get_settings()) as ingest:
                    done = tasks.load(ingest, name_map_index(batch), batch)
                record_lineage(
                    inputs={contracts.DOCUMENTS: {"row_count": batch["documents"]}},
                    outputs={contracts.CHUNKS: {"row_count": done["written"]}},
                    run={"source": batch["source"], **done},
                )
                return done

            load(extract(batch))

        scanned, planned = scan(), plan()
        scanned >> planned
        write.expand(batch=planned)
    return scanned, planned, arm


def name_map_index(batch: Any) -> str:
    """Shows the batch's label in place of the task's map index; the id of the run."""
    context = get_current_context()
    context["map_index_name"] = batch["label"]
    return str(context["run_id"])
