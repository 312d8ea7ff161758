"""### 🏆 Promote champion

Lets the challenger and the champion (or the base model, where there is no champion yet) write for the same frozen
holdout with the same prompt, scores both, and promotes the challenger only when an exact paired test shows that it is
better; the more challengers a holdout has seen, the more is asked of the next. A tie, NaN or too few pairs keep the
champion, and a champion that the provider no longer knows counts as none. The decision, its numbers and both models'
posts stand in MLflow whichever way it goes. The aliases move only if they are still where they were when it was judged;
any task may be cleared.

Runs when `fine_tune` has registered a challenger.
"""

from typing import Any

from airflow.sdk import TriggerRule, cross_downstream, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from deployments.training.defaults import CHALLENGER, CHAMPION, DAG_DEFAULTS
from shared import contracts
from shared.orchestration.datasets import dataset_asset


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
        from dataclasses import asdict

        from deployments.training import tasks
        from deployments.training.mistakes import fail_at_once
        from shared.orchestration.recording import record_lineage
        from shared.settings import get_settings

        with fail_at_once():
            judged = tasks.compare(get_settings(), run_id)
        if judged is None:
            raise AirflowSkipException("there is nothing to compare any more; the log above says why")
        decision, judgement = judged
        numbers = {"promoted": decision.promote, "pairs": decision.pairs}
        record_lineage(outputs={contracts.MODEL: {"version": judgement.challenger}}, run=numbers)
        ti.xcom_push(key="judgement", value=asdict(judgement))
        return "promoted" if decision.promote else "kept"

    @task(
        task_display_name="🏆 Promoted",
        outlets=[CHAMPION],
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    )
    def promoted(ti: Any = None) -> None:
        from deployments.training import tasks
        from shared.settings import get_settings

        # A cleared run may hold the judgement of an earlier try beside the last: the one that still stands counts.
        judgements = ti.xcom_pull(task_ids=["no_champion", "compare"], key="judgement")
        unmoved = tasks.crown(get_settings(), [judgement for judgement in judgements if judgement])
        if unmoved:
            raise AirflowSkipException(unmoved)

    @task(task_display_name="🛡️ Kept", trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    def kept() -> None:
        print("The challenger was not shown to be better; the numbers stand in MLflow.")

    first = judge.override(
        task_id="no_champion", task_display_name="🥇 No champion: against the base model"
    )()
    duel = judge.override(task_id="compare", task_display_name="⚖️ Compare with the champion")()
    choose_comparison() >> [no_challenger(), first, duel]
    cross_downstream([first, duel], [promoted(), kept()])


promote_champion()
