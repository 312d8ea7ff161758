# mypy: ignore-errors
"""### 📚 Ingest the knowledge base

Keeps the knowledge base in step with its sources: the folders in `content/knowledge/`, what `content/sources.toml` names,
and uploads. Only documents that are new, changed or gone are touched, and no text is embedded twice.

1. **list_sources** reads what sources there are. Each connector has an arm of its own, mapped over its sources.
2. **scan** lists a source: what is there, unread. A source that can't be listed keeps its documents; the others go on.
3. **plan** compares the lists with the ledger and makes batches of what is to be read.
4. **extract** opens, reads and splits a batch; **load** embeds what is new in it, writes and verifies it.
5. **commit** switches to the new versions in one transaction, and then deletes the old ones. A crash anywhere leaves old or
   new, and the next run finishes the job.
6. **publish** tells the training deployment. **report_problems** names what can't be used; where more of a source is gone
   than its share allows, **ask_about_removals** asks a person (`approve_removals`), and until then it stays.

It runs daily, when the asset `ghostwriter://knowledge_sources` is updated (a script, `curl`, an upload), and when a person
asks (`ghostwriter knowledge sync`, the desk). Run it again at any time: it works out from state what is due.
"""

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, get_current_context, task

from deployments.ingest import arms, news
from deployments.ingest.composition import build_ingest
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
    @task.branch(task_display_name="📇 List the sources")
    @fails_at_once(KnowledgeError)
    def list_sources(run_id: str) -> list[str]:
        from deployments.ingest import tasks

        with build_ingest(get_settings()) as ingest:
            found = tasks.list_sources(ingest, run_id, reason=news.describe_reason(get_current_context()))
        connectors = {source["connector"] for source in found} or {"folder"}  # whose plan says that there is none
        return [f"{name}.scan" for name in arms.CONNECTORS if name in connectors]

    @task(task_display_name="✅ Commit", trigger_rule="all_done", inlets=[DOCUMENTS], outlets=[CHUNKS])
    @fails_at_once(KnowledgeError, OvertakenError, IncompleteSyncError)
    def commit(run_id: str) -> None:
        from deployments.ingest import tasks

        with build_ingest(get_settings()) as ingest:
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

    listed, committed, problems = list_sources(), commit(), report_problems()
    built = [arms.build_arm(name, "none_failed_min_one_success", DOCUMENTS, CHUNKS) for name in arms.CONNECTORS]
    scans, plans = [scan for scan, _, _ in built], [plan for _, plan, _ in built]
    for scan, plan, arm in built:
        listed >> scan
        scans >> plan
        arm >> committed
    committed >> [publish(), problems]
    ask = TriggerDagRunOperator.partial(
        task_id="ask_about_removals",
        task_display_name="🙋 Ask about removals",
        trigger_dag_id=contracts.APPROVE_REMOVALS_DAG,
        skip_when_already_exists=True,
    )
    ask.expand_kwargs(problems)


ingest_knowledge_base()
