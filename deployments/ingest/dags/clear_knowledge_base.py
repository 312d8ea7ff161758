"""### 🧹 Clear the knowledge base

Empties Weaviate and marks every document as removed; the files and the audit trail of old posts stay. It is
paused, so that nothing starts it by accident: `ghostwriter knowledge clear` unpauses, triggers and pauses it, and so
can you; then sync to build everything anew. A request that has waited too long, an hour where it doesn't say, is
refused, and so is one that names another version of the knowledge base.
"""

from airflow.sdk import dag, get_current_context, task

from deployments.ingest.clearing import OutdatedRequestError, read_request
from deployments.ingest.defaults import DAG_DEFAULTS
from shared import contracts
from shared.orchestration.datasets import dataset_asset
from shared.orchestration.failures import fails_at_once
from shared.settings import get_settings


@dag(
    dag_id=contracts.CLEAR_DAG,
    dag_display_name="🧹 Clear the knowledge base",
    schedule=None,
    is_paused_upon_creation=True,
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def clear_knowledge_base() -> None:
    @task(task_display_name="🧹 Clear", outlets=[dataset_asset(contracts.CHUNKS)])
    @fails_at_once(OutdatedRequestError)
    def clear(run_id: str) -> int:
        from deployments.ingest import composition, tasks

        run = get_current_context()["dag_run"]
        request = read_request(run.conf or {}, run.run_after)
        with composition.build_ingest(get_settings()) as ingest:
            return tasks.clear(ingest, run_id, request)

    clear()


clear_knowledge_base()
