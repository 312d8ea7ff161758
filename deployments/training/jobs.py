"""The work of the task `fine_tune`: at most one job per order, and all that is known of it in the tracker.

It knows neither Airflow nor how the wait between the two halves is done.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from deployments.training import records
from deployments.training.proposals import Order
from deployments.training.results import Point, ResultError, decode_results, draw_curve, parse_results
from deployments.training.tracking.port import Tracker
from deployments.training.tuning.port import CANCELLED, FAILED, TuningApi, TuningJob
from shared import contracts
from shared.ledger.models import TrainingSet
from shared.registry.port import ModelRegistry, ModelVersion

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Purchase:
    """An order with its price, as the check found it."""

    order: Order
    tokens: int  # of one epoch
    price: float
    currency: str


def attach_or_create(order: Order, sessions: sessionmaker[Session], tuning: TuningApi) -> TuningJob:
    """The order's job: the one in the ledger, else our own at the provider, else a new one.

    A job that failed or was cancelled is replaced: whoever calls this again wants it done.
    """
    with sessions.begin() as session:
        row = records.reserve_job(session, order)
        job = tuning.retrieve_job(row.job_id) if row.job_id else None
        if job is not None and job.status in (FAILED, CANCELLED):
            log.warning(
                "job %s has %s (%s): it is replaced", job.id, job.status, job.error or "no reason given"
            )
            job = None
        if job is None and (job := tuning.find_job(order)):
            log.info("job %s was created by an earlier try: attached", job.id)
        if job is None:
            files = records.get_training_set(session, order.training_set)
            job = _create_job(order, files, tuning)
        records.attach_job(row, job)
    log.info("job %s: %s", job.id, job.status)
    return job


def open_run(
    purchase: Purchase, job: TuningJob, sessions: sessionmaker[Session], tracker: Tracker, airflow_run: str
) -> str:
    """Id of the job's run in the tracker, with what is known before the job ends."""
    order = purchase.order
    tags = {contracts.JOB_ID_TAG: job.id, contracts.TRAINING_SET_TAG: order.training_set}
    name = f"fine-tune {order.training_set[:8]}"
    run_id = tracker.open_run(name, job.id, {**tags, "ghostwriter.airflow_run": airflow_run})
    tracker.log_params(
        run_id,
        {
            "model": order.model,
            "n_epochs": order.n_epochs,
            "learning_rate_multiplier": order.learning_rate_multiplier,
            "suffix": order.suffix,
            "training_set": order.training_set,
            "job_id": job.id,
        },
    )
    with sessions.begin() as session:
        files = records.get_training_set(session, order.training_set)
        records.reserve_job(session, order).mlflow_run_id = run_id
    tracker.log_dataset(run_id, "training_set", order.training_set, files.train_file, files.counts)
    return run_id


def record_result(
    purchase: Purchase,
    job: TuningJob,
    run_id: str,
    sessions: sessionmaker[Session],
    tuning: TuningApi,
    tracker: Tracker,
    registry: ModelRegistry,
) -> ModelVersion:
    """Log results, curve, cost and data of a job that succeeded; register its model as challenger."""
    order = purchase.order
    if not job.fine_tuned_model:
        raise ValueError(f"Job {job.id} succeeded but names no model; look at it at the provider.")
    seconds = float(job.finished_at - job.created_at) if job.finished_at else None
    tokens = job.trained_tokens or purchase.tokens * order.n_epochs
    log.info("model %s, %d tokens trained, %s s", job.fine_tuned_model, tokens, seconds)
    totals = {"trained_tokens": tokens, "cost": purchase.price, "seconds": seconds or 0.0}
    tracker.log_points(run_id, [Point(name, 0, float(value)) for name, value in totals.items()])
    tracker.log_params(run_id, {"fine_tuned_model": job.fine_tuned_model, "currency": purchase.currency})
    _log_results(job, run_id, tuning, tracker)
    with sessions() as session:
        files = records.get_training_set(session, order.training_set)
    for file in (files.train_file, files.validation_file, files.holdout_file):
        tracker.log_file(run_id, f"training_set/{Path(file).name}", Path(file).read_bytes())
    version = registry.register(
        model_id=job.fine_tuned_model, run_id=run_id, training_set=order.training_set, job_id=job.id
    )
    champion = registry.get_by_alias(contracts.CHAMPION_ALIAS)
    if champion is None or champion.version != version.version:
        registry.set_alias(contracts.CHALLENGER_ALIAS, version.version)
    with sessions.begin() as session:
        row = records.reserve_job(session, order)
        records.finish_job(row, job, seconds)
        row.model_version = version.version
    tracker.close_run(run_id)
    log.info("version %s of %s is the challenger", version.version, contracts.REGISTERED_MODEL)
    return version


def record_failure(
    order: Order, job: TuningJob, run_id: str, sessions: sessionmaker[Session], tracker: Tracker
) -> None:
    """Note that the job failed or was cancelled."""
    with sessions.begin() as session:
        records.finish_job(records.reserve_job(session, order), job, None)
    tracker.close_run(run_id, failed=True)


def _create_job(order: Order, files: TrainingSet, tuning: TuningApi) -> TuningJob:
    started = time.monotonic()
    # The digest in the name lets a retry find the file again, and says at the provider what it is.
    stem = order.training_set[:16]
    training = tuning.upload_file(Path(files.train_file), f"{stem}-train.jsonl")
    validation = tuning.upload_file(Path(files.validation_file), f"{stem}-validation.jsonl")
    job = tuning.create_job(order, training, validation)
    log.info(
        "job %s created: model %s, %d epochs, %s (%.1f s)",
        job.id, order.model, order.n_epochs, files.counts, time.monotonic() - started,
    )  # fmt: skip
    return job


def _log_results(job: TuningJob, run_id: str, tuning: TuningApi, tracker: Tracker) -> None:
    """A provider may hand out no results, or odd ones; the model is paid for and good all the same."""
    if not job.result_files:
        log.warning("job %s has no result file: no curve", job.id)
        return
    content = tuning.download_file(job.result_files[0])
    try:
        text = decode_results(content)
        points = parse_results(text)
    except ResultError as error:
        log.warning("results of job %s can't be read (%s): kept as they are, no curve", job.id, error)
        tracker.log_file(run_id, "results/results.bin", content)
        return
    tracker.log_file(run_id, "results/results.csv", text.encode())
    tracker.log_points(run_id, points)
    tracker.log_file(run_id, "results/curve.png", draw_curve(points, f"{job.model}, {job.id}"))
    log.info("results: %d numbers over %d steps", len(points), len({point.step for point in points}))
