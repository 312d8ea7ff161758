"""### 🧺 Prepare examples

Turns the example posts in `content/examples/{train,validation,holdout}` into a frozen training set, with the very
prompt that serving uses and the context retrieved for each post. The context of an example is pinned when it is first
prepared: a later change of the knowledge base alone buys no new job.

Runs when the knowledge base or the examples have changed, and once a day. Ends in one of

- **hand_over**: there is something to train or to complain about, `fine_tune` checks it;
- **nothing_due**: this training set has its model already, or its job failed or its model was lost and that waits for a
  person (the log says which): `ghostwriter train start` or the Dag `start_training` tries again;
- **no_knowledge_base**: ingest has not finished yet; its event starts this Dag again.

A mistake in `content/voice.toml` fails it at once; the log names the key.
"""

from typing import Any

from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable, dag, task

from deployments.training.defaults import DAG_DEFAULTS, EXAMPLES, KNOWLEDGE_BASE, TRAINING_SET
from shared import contracts
from shared.orchestration.datasets import dataset_asset


@dag(
    dag_id=contracts.PREPARE_DAG,
    dag_display_name="🧺 Prepare examples",
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 5 * * *", timezone="UTC"), assets=KNOWLEDGE_BASE | EXAMPLES
    ),
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def prepare_examples() -> None:
    @task.branch(
        task_display_name="🧺 Prepare examples",
        inlets=[dataset_asset(contracts.EXAMPLES), dataset_asset(contracts.CHUNKS)],
        outlets=[dataset_asset(contracts.TRAINING_SET)],
    )
    def prepare(run_id: str, ti: Any = None) -> str:
        from deployments.training import tasks
        from deployments.training.mistakes import fail_at_once
        from shared.orchestration.recording import record_lineage
        from shared.settings import get_settings

        with fail_at_once():
            prepared = tasks.prepare(get_settings(), run_id)
        frozen = {"version": prepared.training_set, **prepared.counts}
        record_lineage(
            inputs={contracts.EXAMPLES: {"row_count": sum(prepared.counts.values())}},
            outputs={contracts.TRAINING_SET: frozen} if prepared.training_set else {},
            run={"outcome": prepared.outcome},
        )
        ti.xcom_push(key="reason", value=prepared.reason)
        return "hand_over" if prepared.outcome == "training_set" else prepared.outcome

    @task(task_display_name="📦 Hand over", outlets=[TRAINING_SET])
    def hand_over() -> None:
        """Its event starts `fine_tune`."""

    @task(task_display_name="💤 Nothing due")
    def nothing_due(ti: Any = None) -> None:
        print(f"Nothing is due: {ti.xcom_pull(task_ids='prepare', key='reason')}")

    @task(task_display_name="📭 No knowledge base")
    def no_knowledge_base(ti: Any = None) -> None:
        print(f"Nothing can be prepared: {ti.xcom_pull(task_ids='prepare', key='reason')}")

    prepare() >> [hand_over(), nothing_due(), no_knowledge_base()]


prepare_examples()
