# mypy: ignore-errors
"""### 📚 Ingest the knowledge base

Keeps Weaviate in step with the files in `content/knowledge/<source>/`: only documents that are new, changed or gone are
touched. Each source has its own arm **extract → split → prepare → ingest**, mapped over batches. The order
makes a crash harmless: write new, verify, delete old, commit the ledger last.

Runs daily, whenever a source's asset is updated (a script, `curl`), and when a person asks for it
(`ghostwriter knowledge sync`, the desk). Its last task tells the training deployment over REST. Files that can't be
used keep their earlier version, and a source of which more than half is gone at once keeps its documents;
**report_problems**, the desk and `ghostwriter knowledge status` name them. A source that joins the Dag while a run is
at work is left to the next run.
"""

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, get_current_context, task

from deployments.ingest import arms
from deployments.ingest.defaults import DAG_DEFAULTS, SOURCE_ASSETS, SOURCES
from shared import contracts
from shared.orchestration.datasets import dataset_asset
from shared.orchestration.recording import record_lineage
from shared.settings import get_settings

DOCUMENTS, CHUNKS = dataset_asset(contracts.DOCUMENTS), dataset_asset(contracts.CHUNKS)
DAILY = CronTriggerTimetable("0 4 * * *", timezone="UTC")


@dag(
    dag_id=contracts.INGEST_DAG,
    dag_display_name="📚 Ingest the knowledge base",
    schedule=AssetOrTimeSchedule(timetable=DAILY, assets=SOURCE_ASSETS) if SOURCE_ASSETS else DAILY,
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def ingest_knowledge_base() -> None:
    @task.branch(task_display_name="🔎 Check the collection")
    def check_collection() -> str:
        from deployments.ingest import tasks

        return "plan" if tasks.collection_exists(get_settings()) else "create_collection"

    @task(task_display_name="🏗️ Create the collection")
    def create_collection() -> None:
        from deployments.ingest import tasks

        tasks.create_collection(get_settings())

    @task(task_display_name="🗺️ Plan", trigger_rule="none_failed_min_one_success")
    def plan(run_id: str) -> dict[str, int]:
        return arms.plan(run_id)

    @task(task_display_name="⚠️ Report problems")
    def report_problems() -> None:
        arms.report_problems()

    @task(task_display_name="✅ Commit", trigger_rule="all_done", inlets=[DOCUMENTS], outlets=[CHUNKS])
    def commit(run_id: str) -> None:
        outcome = arms.commit(run_id)
        record_lineage(
            inputs={contracts.DOCUMENTS: {"version": outcome.digest, "row_count": outcome.documents}},
            outputs={contracts.CHUNKS: {"version": outcome.digest, "row_count": outcome.chunks}},
            run={"written": outcome.written, "removed": outcome.removed},
        )

    @task(task_display_name="📣 Publish")
    def publish() -> str | None:
        return arms.publish(get_current_context())

    checked, planned = check_collection(), plan()
    checked >> create_collection() >> planned
    checked >> planned
    committed = commit()
    planned >> report_problems()
    planned >> committed >> publish()
    for source in SOURCES:
        planned >> arms.build_arm(source, DOCUMENTS, CHUNKS) >> committed


ingest_knowledge_base()
