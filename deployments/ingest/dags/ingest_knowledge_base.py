"""### 📚 Ingest the knowledge base

Keeps the knowledge base in step with its sources: folders in `content/knowledge/`, what `content/sources.toml` names,
and uploads. Only what is new, changed or gone is touched, and no text is embedded twice.

**plan** lists the sources and compares them with the ledger; one that can't be listed keeps its documents. Each
connector has an arm, mapped over batches: **extract** reads and splits, **load** embeds, writes and verifies.
**commit** switches to the new versions in one transaction and then deletes the old ones: a crash anywhere leaves old
or new. **publish** tells the training deployment; **report_problems** names what can't be used; where more of a
source is gone than its share allows, **ask_about_removals** asks a person, and until then it stays.

It runs daily, when the asset `ghostwriter://knowledge_sources` is updated (a script, `curl`, an upload), and when a
person asks (`ghostwriter knowledge sync`, the desk). Run it again at any time: it works out from state what is due.
"""

from typing import Any

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, get_current_context, task

from deployments.ingest import arms, news
from deployments.ingest.connectors.registry import CONNECTORS
from deployments.ingest.defaults import DAG_DEFAULTS, KNOWLEDGE_CHANGED
from deployments.ingest.errors import IncompleteSyncError, KnowledgeError, OvertakenError
from deployments.ingest.freshness import DEADLINE
from shared import contracts
from shared.orchestration.datasets import dataset_asset
from shared.orchestration.failures import fails_at_once
from shared.settings import get_settings

DOCUMENTS, CHUNKS = dataset_asset(contracts.DOCUMENTS), dataset_asset(contracts.CHUNKS)
DAILY = CronTriggerTimetable("0 4 * * *", timezone="UTC")


@dag(
    dag_id=contracts.INGEST_DAG,
    dag_display_name="📚 Ingest the knowledge base",
    schedule=AssetOrTimeSchedule(timetable=DAILY, assets=[KNOWLEDGE_CHANGED]),
    deadline=DEADLINE,
    on_failure_callback=news.record_failure,
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def ingest_knowledge_base() -> None:
    @task.branch(task_display_name="🗺️ Plan")
    @fails_at_once(KnowledgeError, OvertakenError)
    def plan(run_id: str) -> list[str]:
        from deployments.ingest import composition, tasks

        context = get_current_context()
        with composition.build_ingest(get_settings()) as ingest:
            tasks.survey(ingest, run_id, reason=news.describe_reason(context))
            planned = tasks.plan(ingest, run_id, accepted=news.read_accepted(context))
        context["ti"].xcom_push("counts", planned["counts"])
        return [f"{name}.batches" for name in CONNECTORS if planned["batches"].get(name)] or ["commit"]

    @task(task_display_name="✅ Commit", trigger_rule="all_done", inlets=[DOCUMENTS], outlets=[CHUNKS])
    @fails_at_once(KnowledgeError, OvertakenError, IncompleteSyncError)
    def commit(run_id: str) -> None:
        from deployments.ingest import composition, tasks

        with composition.build_ingest(get_settings()) as ingest:
            news.record_outcome(tasks.commit(ingest, run_id))

    @task(task_display_name="📣 Publish")
    def publish() -> str | None:
        return news.publish(get_current_context())

    @task(task_display_name="⚠️ Report problems", trigger_rule="all_done")
    def report_problems() -> list[dict[str, Any]]:
        return news.report_problems()

    planned, committed, problems = plan(), commit(), report_problems()
    planned >> committed
    for connector in CONNECTORS:
        planned >> arms.build_arm(connector, DOCUMENTS, CHUNKS) >> committed
    committed >> [publish(), problems]
    arms.ask_about_removals(problems)


ingest_knowledge_base()
