"""### 🎓 Fine-tune

Checks and prices the latest training set, then has it learnt: at most one job per training set and settings.
Runs when `prepare_examples` hands one over. The check branches to

- **bad_format**: a file is malformed, or an example is too long for the model, or nearly the same post stands in two
  sets (the log names file and line);
- **no_training_examples**, **no_validation_examples**, **no_holdout_examples**;
- **over_budget**: the log shows price and budget (`[budget]` in `content/voice.toml`), and no job is there yet;
- **fine_tune**: waits in the triggerer; curve, cost and data go to MLflow (links on the task), and the new version
  becomes `challenger`. It re-attaches after any crash, and after a clear. Marking it failed or successful cancels the
  job. A job that failed or was cancelled fails it at once; clearing it then, `ghostwriter train start` or the Dag
  `start_training` buys another, and nothing else does.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from deployments.training.defaults import CHALLENGER, DAG_DEFAULTS, TRAINING_SET
from deployments.training.operators.fine_tune import FineTuneOperator
from shared import contracts
from shared.orchestration.datasets import dataset_asset

ENDS = {
    "bad_format": "📝 Bad format",
    "no_training_examples": "🈳 No training examples",
    "no_validation_examples": "🈳 No validation examples",
    "no_holdout_examples": "🈳 No holdout examples",
    "over_budget": "💸 Over budget",
}


@dag(
    dag_id=contracts.FINE_TUNE_DAG,
    dag_display_name="🎓 Fine-tune",
    schedule=[TRAINING_SET],
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def fine_tune() -> None:
    @task.branch(task_display_name="🧮 Check examples and cost")
    def check_examples_and_cost(ti: Any = None) -> str:
        from deployments.training import tasks
        from shared.settings import get_settings

        verdict, purchase = tasks.check(get_settings())
        ti.xcom_push(key="purchase", value=purchase)
        return verdict.outcome

    @task
    def end() -> None:
        from deployments.training import tasks
        from shared.settings import get_settings

        tasks.check(get_settings())  # logs the reasons where a person looks for them

    check = check_examples_and_cost()
    train = FineTuneOperator(
        task_id="fine_tune",
        task_display_name="🎓 Fine-tune",
        purchase=check["purchase"],
        inlets=[dataset_asset(contracts.TRAINING_SET), dataset_asset(contracts.ADAPTERS)],
        outlets=[CHALLENGER, dataset_asset(contracts.MODEL)],
        execution_timeout=timedelta(minutes=30),
    )
    check >> [train, *(end.override(task_id=name, task_display_name=title)() for name, title in ENDS.items())]


fine_tune()
