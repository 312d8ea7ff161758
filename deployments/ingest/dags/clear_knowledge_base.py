"""### 🧹 Clear the knowledge base

Empties Weaviate and marks every document as removed; the files and the audit trail of old posts stay. It stays paused:
trigger it by hand (or `ghostwriter knowledge clear`), then sync to build everything anew.
"""

from airflow.sdk import dag, task

from deployments.ingest.defaults import DAG_DEFAULTS
from shared import contracts
from shared.orchestration.datasets import dataset_asset
from shared.settings import get_settings


@dag(
    dag_id=contracts.CLEAR_DAG,
    dag_display_name="🧹 Clear the knowledge base",
    schedule=None,
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def clear_knowledge_base() -> None:
    @task(task_display_name="🧹 Clear", outlets=[dataset_asset(contracts.CHUNKS)])
    def clear(run_id: str) -> int:
        from deployments.ingest import tasks

        return tasks.clear(get_settings(), run_id)

    clear()


clear_knowledge_base()
