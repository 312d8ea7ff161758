"""### 🙋 Approve removals

More of a source's documents are gone at once than its share allows, which looks like a lost folder. **ask** waits for
a person, a week at most; approving lets these very removals happen with the next run of ingest, rejecting leaves the
documents where they are. `ghostwriter knowledge sync --accept-removals` and the desk answer the same question: then
this one changes nothing any more. A run of this Dag is one removal, named by its digest.
"""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag

from deployments.ingest.defaults import DAG_DEFAULTS
from shared import contracts


@dag(
    dag_id=contracts.APPROVE_REMOVALS_DAG,
    dag_display_name="🙋 Approve removals",
    schedule=None,
    doc_md=__doc__,
    **{**DAG_DEFAULTS, "max_active_runs": 16},
)
def approve_removals() -> None:
    ask = ApprovalOperator(
        task_id="ask",
        task_display_name="🙋 Ask",
        subject="May these documents leave the knowledge base?",
        body="{{ dag_run.conf.get('message', 'No removal was named.') }}",
        response_timeout=timedelta(days=7),
        execution_timeout=timedelta(days=8),
    )
    ask >> TriggerDagRunOperator(
        task_id="sync",
        task_display_name="📚 Sync",
        trigger_dag_id=contracts.INGEST_DAG,
        conf={
            contracts.ACCEPT_REMOVALS: ["{{ dag_run.conf.get('digest', '') }}"],
            "asked_by": "approve_removals",
        },
    )


approve_removals()
