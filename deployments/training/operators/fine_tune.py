"""An operator that fine-tunes a model at most once per training set, and the links from its task.

It knows nothing of prices or of what makes a model good.
"""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from deployments.training import composition, jobs
from deployments.training.tasks import read_purchase
from deployments.training.triggers.fine_tune import FineTuneTrigger
from deployments.training.tuning.port import (
    CANCELLED,
    SUCCEEDED,
    TuningError,
    TuningJob,
    TuningUnavailableError,
)
from deployments.training.waiting import FIRST_POLL, PATIENCE, Silence
from shared import contracts
from shared.orchestration.recording import record_lineage
from shared.settings import get_settings


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

    A retry, a cleared task or a crash re-attaches to the job that is there; one that failed or was cancelled is
    replaced. Killing the task cancels the job. Returns the model's name at the provider (XCom).

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
        self.job_id = ""
        self.job_url = ""
        self.run_url = ""

    def execute(self, context: Mapping[str, Any]) -> str:
        """Find or create the job, then wait as asked."""
        settings = get_settings()
        purchase = read_purchase(self.purchase)
        sessions, tuning = composition.create_ledger(settings), composition.create_tuning(settings)
        try:
            job = jobs.attach_or_create(purchase.order, sessions, tuning)
        except TuningError as error:
            raise AirflowFailException(str(error)) from error
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
        return self._record(job)

    def execute_complete(self, context: Mapping[str, Any], event: dict[str, Any]) -> str:
        """Go on when the trigger has fired."""
        self.job_id = event["job_id"]
        if event["status"] == "lost":
            raise AirflowException(f"Lost sight of job {self.job_id}: {event['error']}. A retry re-attaches.")
        job = composition.create_tuning(get_settings()).retrieve_job(self.job_id)
        return self._record(job)

    def on_kill(self) -> None:
        """Stop paying for a job that nobody waits for."""
        if self.job_id:
            self.log.warning("the task was killed: cancelling job %s", self.job_id)
            composition.create_tuning(get_settings()).cancel_job(self.job_id)

    def _record(self, job: TuningJob) -> str:
        settings = get_settings()
        purchase = read_purchase(self.purchase)
        sessions, tracker = composition.create_ledger(settings), composition.create_tracker(settings)
        run_id = jobs.open_run(purchase, job, sessions, tracker, "")
        self._show_links(job.id, run_id)
        if job.status != SUCCEEDED:
            jobs.record_failure(purchase.order, job, run_id, sessions, tracker)
            message = f"Job {job.id} has {job.status}: {job.error or 'no reason given'}"
            raise (AirflowFailException if job.status == CANCELLED else AirflowException)(message)
        registry, tuning = composition.create_registry(settings), composition.create_tuning(settings)
        # From here on a kill must not cancel anything: the job has ended.
        self.job_id = ""
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
