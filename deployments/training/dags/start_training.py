"""### ▶️ Start training

By hand: lets jobs be tried again that failed, were cancelled, or whose model is not at the provider any more, and
starts the pipeline as if the examples had changed.
`ghostwriter train start` triggers this Dag. A script that only has news of the examples posts their event
(`python -m deployments.training.notify`, or the `curl` in its docstring): that buys no job again that failed.
"""

from airflow.sdk import dag, task

from deployments.training.defaults import DAG_DEFAULTS, EXAMPLES
from shared import contracts


@dag(
    dag_id=contracts.START_TRAINING_DAG,
    dag_display_name="▶️ Start training",
    schedule=None,
    doc_md=__doc__,
    **DAG_DEFAULTS,
)
def start_training() -> None:
    @task(task_display_name="▶️ Start training", outlets=[EXAMPLES])
    def start() -> int:
        from deployments.training import tasks
        from shared.settings import get_settings

        return tasks.release_jobs(get_settings())

    start()


start_training()
