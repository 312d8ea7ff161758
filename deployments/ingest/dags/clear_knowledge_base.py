# mypy: ignore-errors
"""### 🧹 Clear the knowledge base

Empties Weaviate and marks every document as removed; the files and the audit trail of old posts stay. It is
paused, so that nothing starts it by accident: `ghostwriter knowledge clear` unpauses, triggers and pauses it, and so
can you; then sync to build everything anew. A request that has waited too long, an hour where it doesn't say, is
refused, and so is one that names another version of the knowledge base.
"""

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from deployments.ingest.defaults import DAG_DEFAULTS
from shared import contracts
from shared.orchestration.datasets import dataset_asset
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
    def clear(run_id: str) -> int:
        from deployments.ingest import tasks
        from deployments.ingest.clearing import OutdatedRequestError, read_request

        run = get_current_context()["dag_run"]
        try:
            return tasks.clear(get_settings(), run_id, read_request(run.conf or {}, run.run_after))
        except OutdatedRequestError as error:
            raise AirflowFailException(str(error)) from error

    clear()


clear_knowledge_base()
