"""### 📚 Ingest the knowledge base

Keeps the knowledge base in step with its sources: the folders in `content/knowledge/`, what `content/sources.toml`
names, and uploads. Only documents that are new, changed or gone are touched, and no text is embedded twice.

1. **plan** reads what sources there are and lists them: what is there, unread. A source that can't be listed keeps
   its documents; the others go on. What was listed is compared with the ledger, and what is to be read is put into
   batches.
2. Each connector has an arm of its own, mapped over its **batches**: **extract** opens, reads and splits a batch,
   **load** embeds what is new in it, writes and verifies it.
3. **commit** switches to the new versions in one transaction, and then deletes the old ones. A crash anywhere leaves
   old or new, and the next run finishes the job.
4. **publish** tells the training deployment. **report_problems** names what can't be used; where more of a source is
   gone than its share allows, **ask_about_removals** asks a person (`approve_removals`), and until then it stays.

It runs daily, when the asset `ghostwriter://knowledge_sources` is updated (a script, `curl`, an upload), and when a
person asks (`ghostwriter knowledge sync`, the desk). Run it again at any time: it works out from state what is due.
"""

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, get_current_context, task

from deployments.ingest import arms, news
from deployments.ingest.defaults import DAG_DEFAULTS, KNOWLEDGE_CHANGED
from deployments.ingest.errors import IncompleteSyncError, KnowledgeError, OvertakenError
from deployments.ingest.freshness import DEADLINE
from shared import contracts
from shared.orchestration.datasets import dataset_asset
from shared.orchestration.failures import fails_at_once
from shared.orchestration.recording import record_lineage
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
        return [f"{name}.batches" for name in arms.CONNECTORS if planned["batches"].get(name)] or ["commit"]

    @task(task_display_name="✅ Commit", trigger_rule="all_done", inlets=[DOCUMENTS], outlets=[CHUNKS])
    @fails_at_once(KnowledgeError, OvertakenError, IncompleteSyncError)
    def commit(run_id: str) -> None:
        from deployments.ingest import composition, tasks

        with composition.build_ingest(get_settings()) as ingest:
            outcome = tasks.commit(ingest, run_id)
        record_lineage(
            inputs={contracts.DOCUMENTS: {"version": outcome.digest, "row_count": outcome.documents}},
            outputs={contracts.CHUNKS: {"version": outcome.digest, "row_count": outcome.chunks}},
            run={"written": outcome.written, "removed": outcome.removed},
        )

    @task(task_display_name="📣 Publish")
    def publish() -> str | None:
        return news.publish(get_current_context())

    @task(task_display_name="⚠️ Report problems", trigger_rule="all_done")
    def report_problems() -> list[dict[str, Any]]:
        return news.report_problems()

    planned, committed, problems = plan(), commit(), report_problems()
    planned >> committed
    for connector in arms.CONNECTORS:
        planned >> arms.build_arm(connector, DOCUMENTS, CHUNKS) >> committed
    committed >> [publish(), problems]
    ask = TriggerDagRunOperator.partial(
        task_id="ask_about_removals",
        task_display_name="🙋 Ask about removals",
        trigger_dag_id=contracts.APPROVE_REMOVALS_DAG,
        skip_when_already_exists=True,
    )
    ask.expand_kwargs(problems)


ingest_knowledge_base()
