"""An operator that fine-tunes a model at most once per training set, and the links from its task.

It knows nothing of prices or of what makes a model good.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from threading import Thread
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from deployments.training import composition, jobs
from deployments.training.abandonment import stop_job_if_given_up
from deployments.training.tasks import ask_for_models, read_purchase
from deployments.training.triggers.fine_tune import FineTuneTrigger
from deployments.training.tuning.port import TuningError, TuningJob, TuningUnavailableError
from deployments.training.waiting import FIRST_POLL, PATIENCE, Silence
from shared import contracts
from shared.orchestration.recording import record_lineage
from shared.settings import get_settings

ASKING_SECONDS = 4.0
"""Airflow kills a task that does not end within 5 s of its SIGTERM."""


class JobLink(BaseOperatorLink):
    """To the job at the provider."""

    name = "Fine-tuning job"
    xcom_key = "fine_tuning_job_url"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The address that the operator found in this try."""
        return str(getattr(operator, "job_url", ""))


class RunLink(BaseOperatorLink):
    """To curve, cost and data in the tracker."""

    name = "MLflow run"
    xcom_key = "mlflow_run_url"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The address that the operator found in this try."""
        return str(getattr(operator, "run_url", ""))


class FineTuneOperator(BaseOperator):
    """Create or find the job, wait for it, record all about it and register its model as challenger.

    Returns the model's name at the provider (XCom). What happens to the job:

    - A retry, a crash, a stopped or killed worker, a restart of the triggerer: the next try re-attaches.
    - Clearing the waiting task: the job goes on, and the next try re-attaches.
    - Marking it failed or successful, or its Dag run failed: the job is cancelled, nobody waits for it any more.
      In the seconds in which it is being created, or while the triggerer is down, it can't be: it goes on, and the
      next run re-attaches.
    - The job failed or was cancelled: that is written to the ledger and the task fails, without a retry. Whoever
      comes next fails at once, too, until a person wants another job: by `ghostwriter train start`, the Dag
      `start_training`, or clearing the failed task. A first try after a clear is known by its number: a clear sets
      `max_tries` to `try_number + retries`, a retry leaves it. (A clear of a Dag run in which this task did not run
      yet is none.)
    - "Lost sight of the job", or a part that is down: retried.

    :param purchase: what the check handed over (`deployments.training.tasks.check`).
    :param wait_for_completion: False ends the task once the job exists; nothing is registered then.
    :param deferrable: wait in the triggerer rather than in a worker.
    :param poll_interval: seconds between two questions to the provider, at least 3.
    :param patience: seconds without an answer of the provider before the wait is given up.
    :param timeout: how long a deferred wait may take in all.
    """

    template_fields = ("purchase",)
    operator_extra_links = (JobLink(), RunLink())
    ui_color = "#e8d9f7"

    def __init__(
        self,
        *,
        purchase: Any,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: float = 5.0,
        patience: float = PATIENCE,
        timeout: timedelta = timedelta(hours=24),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.purchase = purchase
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = max(FIRST_POLL, poll_interval)
        self.patience = patience
        self.timeout = timeout
        self.instance: Any = None
        self.job_id = ""
        self.job_url = ""
        self.run_url = ""

    def execute(self, context: Mapping[str, Any]) -> str:
        """Find or create the job, then wait as asked."""
        settings = get_settings()
        purchase = read_purchase(self.purchase)
        sessions, tuning = composition.create_ledger(settings), composition.create_tuning(settings)
        self.instance = instance = context["ti"]
        replace = instance.try_number > 1 and instance.try_number == instance.max_tries - self.retries + 1
        with _refusals_fail():
            job = jobs.attach_or_create(
                purchase.order,
                sessions,
                tuning,
                replace=replace,
                may_buy=purchase.affordable,
                knows_model=ask_for_models(settings),
            )
        self.job_id = job.id
        run_id = jobs.open_run(
            purchase, job, sessions, composition.create_tracker(settings), context["run_id"]
        )
        self._show_links(job.id, run_id)
        context["ti"].xcom_push(key="job_id", value=job.id)
        if not self.wait_for_completion:
            return job.id
        if not job.finished and self.deferrable:
            self.defer(
                trigger=FineTuneTrigger(job.id, self.poll_interval, self.patience),
                method_name="execute_complete",
                timeout=self.timeout,
            )
        if not job.finished:
            job = self._wait(job.id)
        self.job_id = ""  # it has ended
        return self._record(job)

    def execute_complete(self, context: Mapping[str, Any], event: dict[str, Any]) -> str:
        """Go on when the trigger has fired."""
        if event["status"] == "lost":
            raise AirflowException(
                f"Lost sight of job {event['job_id']}: {event['error']}. A retry re-attaches."
            )
        with _refusals_fail():
            job = composition.create_tuning(get_settings()).retrieve_job(event["job_id"])
        return self._record(job)

    def on_kill(self) -> None:
        """Stop paying for a job that a person has given up; a stopped worker or a timeout stops nothing.

        It interrupts the task's own code, which may hold the line to Airflow: asked in a thread, and not for long.
        """
        if self.job_id:
            asking = Thread(target=stop_job_if_given_up, args=(self.instance, self.job_id), daemon=True)
            asking.start()
            asking.join(ASKING_SECONDS)

    def _record(self, job: TuningJob) -> str:
        settings = get_settings()
        purchase = read_purchase(self.purchase)
        sessions, tracker = composition.create_ledger(settings), composition.create_tracker(settings)
        run_id = jobs.open_run(purchase, job, sessions, tracker, "")
        self._show_links(job.id, run_id)
        if job.fruitless:
            raise AirflowFailException(jobs.record_failure(job, run_id, sessions, tracker))
        registry, tuning = composition.create_registry(settings), composition.create_tuning(settings)
        version = jobs.record_result(purchase, job, run_id, sessions, tuning, tracker, registry)
        record_lineage(
            inputs={
                contracts.TRAINING_SET: {"version": version.training_set},
                contracts.ADAPTERS: {"version": version.model_id},
            },
            outputs={contracts.MODEL: {"version": version.version}},
            run={"job_id": job.id, "mlflow_run_id": run_id},
        )
        return job.fine_tuned_model or ""

    def _show_links(self, job_id: str, run_id: str) -> None:
        settings = get_settings()
        self.job_url = f"{settings.llm_base_url.rstrip('/')}/fine_tuning/jobs/{job_id}"
        self.run_url = composition.create_tracker(settings).describe_run(run_id)

    def _wait(self, job_id: str) -> TuningJob:
        tuning, silence = composition.create_tuning(get_settings()), Silence(self.patience)
        deadline = time.monotonic() + self.timeout.total_seconds()
        while time.monotonic() < deadline:
            time.sleep(self.poll_interval)
            try:
                with _refusals_fail():
                    job = tuning.retrieve_job(job_id)
            except TuningUnavailableError as error:
                if silence.miss(time.monotonic()):
                    raise
                self.log.warning("%s; asking again", error)
                continue
            silence.hear()
            if job.finished:
                return job
        raise AirflowException(f"Job {job_id} has not ended within {self.timeout}. A retry re-attaches.")


@contextmanager
def _refusals_fail() -> Iterator[None]:
    try:
        yield
    except TuningError as error:
        raise AirflowFailException(str(error)) from error
