"""### 🏆 Promote champion

Lets the challenger and the champion (the base model, where the provider knows no champion) write for the same frozen
holdout with the same prompt. An exact paired test must show that the challenger is better, and each further one on that
holdout has to show more. Decision, numbers and posts stand in MLflow. Aliases move only if they are still where they
were then, so any task may be cleared. Runs when `fine_tune` has registered a challenger.
"""

from typing import Any

from airflow.sdk import TriggerRule, cross_downstream, dag, task

from deployments.training.defaults import CHALLENGER, CHAMPION, DAG_DEFAULTS
from shared import contracts
from shared.orchestration.datasets import dataset_asset

ONE_JUDGED = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS


@dag(
    dag_id=contracts.PROMOTE_DAG,
    dag_display_name="🏆 Promote champion",
    schedule=[CHALLENGER],
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def promote_champion() -> None:
    @task.branch(task_display_name="🔀 Who is there?")
    def choose_comparison() -> str:
        from deployments.training import tasks
        from shared.settings import get_settings

        return tasks.choose(get_settings())

    @task(task_display_name="📭 No challenger")
    def no_challenger() -> None:
        print(
            "Nothing to decide: no challenger, or one that is champion already or that the provider doesn't know."
        )

    @task.branch(
        inlets=[dataset_asset(contracts.MODEL), dataset_asset(contracts.TRAINING_SET)],
        outlets=[dataset_asset(contracts.MODEL)],
    )
    def judge(run_id: str, ti: Any = None) -> str:
        from deployments.training import tasks
        from deployments.training.mistakes import fail_at_once
        from shared.orchestration.recording import record_lineage
        from shared.settings import get_settings

        with fail_at_once():
            decision, judgement = tasks.compare(get_settings(), run_id)
        version, numbers = judgement["challenger"], {"promoted": decision.promote, "pairs": decision.pairs}
        record_lineage(outputs={contracts.MODEL: {"version": version}}, run=numbers)
        ti.xcom_push(key="judgement", value=judgement)
        return "promoted" if decision.promote else "kept"

    @task(task_display_name="🏆 Promoted", outlets=[CHAMPION], trigger_rule=ONE_JUDGED)
    def promoted(ti: Any = None) -> None:
        from deployments.training import tasks
        from deployments.training.mistakes import fail_at_once
        from shared.settings import get_settings

        judgements = ti.xcom_pull(task_ids=["no_champion", "compare"], key="judgement")
        with fail_at_once():
            tasks.crown(get_settings(), filter(None, judgements))

    @task(task_display_name="🛡️ Kept", trigger_rule=ONE_JUDGED)
    def kept() -> None:
        print("The challenger was not shown to be better; the numbers stand in MLflow.")

    first = judge.override(
        task_id="no_champion", task_display_name="🥇 No champion: against the base model"
    )()
    duel = judge.override(task_id="compare", task_display_name="⚖️ Compare with the champion")()
    choose_comparison() >> [no_challenger(), first, duel]
    cross_downstream([first, duel], [promoted(), kept()])


promote_champion()
