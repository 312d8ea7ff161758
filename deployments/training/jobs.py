"""The work of the task `fine_tune`: at most one job per order, and all that is known of it in the tracker.

It knows neither Airflow nor how the wait between the two halves is done.
"""

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from deployments.training import records
from deployments.training.proposals import Order, name_job
from deployments.training.results import Point, ResultError, decode_results, draw_curve, parse_results
from deployments.training.tracking.port import Tracker
from deployments.training.tuning.port import (
    CANCELLED,
    FAILED,
    KnowsModel,
    TuningApi,
    TuningError,
    TuningJob,
    TuningUnavailableError,
    UnknownJobError,
)
from shared import contracts
from shared.ledger.models import FineTuningJob, utc_now
from shared.registry.port import ModelRegistry, ModelVersion, RegistryError

log = logging.getLogger(__name__)

ANSWER_WITHIN = timedelta(minutes=2)
"""A provider may take this long to list a job whose creation it did not answer; the retries outlast it."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """An order with its price, as the check found it."""

    order: Order
    tokens: int  # of one epoch
    price: float
    currency: str
    affordable: bool = True  # else it may follow the job that is there, and buy none


class JobEndedError(TuningError):
    """The order's job failed or was cancelled, and no person has asked for another; the message says how to."""


def attach_or_create(
    order: Order,
    sessions: sessionmaker[Session],
    tuning: TuningApi,
    *,
    replace: bool = False,
    may_buy: bool = True,
    knows_model: KnowsModel = lambda model: True,
) -> TuningJob:
    """The order's job: the one in the ledger, else our own at the provider, else a new one.

    One that is recorded as failed or cancelled raises JobEndedError, unless a person wants it `replace`d. One that a
    person has released, since its model was lost, is replaced where the provider still doesn't know the model. Whether
    the question for a new job was answered is in the ledger too: after a crash in between, the provider has
    `ANSWER_WITHIN` to list the job before another is asked for, and until then TuningUnavailableError is raised. A
    provider that knows idempotency keys would make no second one even then.
    TuningError where only a new job would do, and none may be bought.
    """
    with sessions.begin() as session:
        row = records.reserve_job(session, order)
        before = row.job_id or ""  # where a new one is asked for, it replaces this one
        if row.status in (FAILED, CANCELLED):
            if not replace:
                raise JobEndedError(f"{_explain_failure(row)}; clearing this task does, too")
            log.warning("%s: it is replaced, as a person asked", records.describe_failure(row))
            records.empty_row(row)
        # After a change of provider and back the model is there again, and paid for.
        lost = row.job_id if row.status == records.RELEASED and not knows_model(row.model_id or "") else None
        try:
            if lost or not row.job_id:
                job = _find_job(row, order, tuning)
                job = None if job is not None and job.id == lost else job
            else:
                job = tuning.retrieve_job(row.job_id)
        except UnknownJobError as error:
            raise UnknownJobError(f"{error}; {contracts.TRY_AGAIN}") from error
        if job is None and not may_buy:
            raise TuningError(
                "The job that was followed has come to nothing, and another is over max_training_cost in voice.toml. "
                f"Once it is raised: {contracts.TRY_AGAIN}."
            )
        if job is None:
            newest = tuning.find_job(order, since=0)
            key = order.name_request(newest.id if newest else before)
            files = _upload_files(session, order, tuning)
            asked_at = _ask(row)
        elif row.job_id and not lost and row.job_id != job.id:
            raise TuningError(f"The provider was asked for job {row.job_id} and answered with {job.id}.")
        else:
            records.attach_job(row, job)
    if job is None:
        job = _create_job(order, (*files, key), asked_at, sessions, tuning)
    if not job.may_carry(order.metadata):
        raise TuningError(f"Job {job.id} is not ours: it carries {dict(job.metadata)}. Look at the provider.")
    log.info("job %s: %s", job.id, job.status)
    return job


def has_job(order: Order, sessions: sessionmaker[Session], tuning: TuningApi) -> bool:
    """Whether `attach_or_create` would follow a job that there is, rather than ask for one."""
    with sessions() as session:
        row = records.find_job(session, order)
    if row is None or records.is_under_way(row):
        return row is not None
    if row.asked_at is None:
        return False
    found = _find_job(row, order, tuning)  # it was asked for, and no answer came
    return found is not None and found.id != row.job_id


def release_jobs(
    sessions: sessionmaker[Session], tuning: TuningApi, knows_model: KnowsModel = lambda model: True
) -> int:
    """A person's wish: jobs that came to nothing, or whose model is lost, may be tried again; how many there were.

    Of a job whose end nobody has recorded the provider is asked first: it may have been cancelled there, or be gone.
    """
    with sessions.begin() as session:
        for row in records.find_unsettled_jobs(session):
            try:
                job = tuning.retrieve_job(str(row.job_id))
            except UnknownJobError as error:
                log.warning("%s: it is forgotten", error)
                row.status = FAILED
                continue
            if not job.may_carry(name_job(row.training_set, row.settings_digest)):
                log.warning("job %s is another's: it is forgotten", job.id)
                row.status = FAILED
            elif job.fruitless:
                records.finish_job(row, job)
        lost = [row for row in records.find_registered_jobs(session) if not knows_model(row.model_id or "")]
        for row in lost:
            log.warning("job %s: its model %s is not at the provider any more", row.job_id, row.model_id)
            row.status = records.RELEASED
        return len(lost) + records.release_failed_jobs(session)


def stop_job(job_id: str, sessions: sessionmaker[Session], tuning: TuningApi, tracker: Tracker) -> None:
    """Stop paying for a job that a person has given up. One that was faster stays: the next run registers its model."""
    tuning.cancel_job(job_id)
    job = tuning.retrieve_job(job_id)
    if not job.fruitless:
        log.warning("job %s is %s all the same", job_id, job.status)
        return
    with sessions.begin() as session:
        row = records.find_job_by_id(session, job_id)
        if row is not None:
            records.finish_job(row, job)
    if row is not None and row.mlflow_run_id:
        tracker.close_run(row.mlflow_run_id, failed=True)


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
        if row := records.find_job_by_id(session, job.id):
            row.mlflow_run_id = run_id
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
    """Log results, curve, cost and data of a job that succeeded; register its model as challenger.

    One that was recorded before, or that a newer version has overtaken, becomes no challenger again: it had its turn,
    and its verdict must not come back. Raises RegistryError where the alias is moved by another just then.
    """
    order = purchase.order
    if job.fruitless or job.fine_tuned_model is None:
        raise ValueError(f"Job {job.id} has {job.status} and names no model: there is nothing to register.")
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
    known = {version.version for version in registry.list_versions()}
    version = registry.register(
        model_id=job.fine_tuned_model, run_id=run_id, training_set=order.training_set, job_id=job.id
    )
    with sessions() as session:
        row = records.find_job_by_id(session, job.id)
        recorded = version.version in known and row is not None and row.model_version == version.version
    if recorded:
        log.info("version %s is recorded already: no alias moves", version.version)
    else:
        _challenge(version, registry)
    with sessions.begin() as session:
        row = records.find_job_by_id(session, job.id) or records.reserve_job(session, order)
        records.finish_job(row, job, model_version=version.version, seconds=seconds)
    tracker.close_run(run_id)
    return version


def record_failure(job: TuningJob, run_id: str, sessions: sessionmaker[Session], tracker: Tracker) -> str:
    """Note that the job came to nothing; why, and what a person can do. One already released stays released."""
    explained = f"Job {job.id} came to nothing, and a person has asked for another."
    with sessions.begin() as session:
        if row := records.find_job_by_id(session, job.id):
            records.finish_job(row, job)
            explained = _explain_failure(row)
    tracker.close_run(run_id, failed=True)
    return explained


def _challenge(version: ModelVersion, registry: ModelRegistry) -> None:
    """Point the alias challenger at the version, unless a newer one is there, or it is the champion."""
    challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    champion = registry.get_by_alias(contracts.CHAMPION_ALIAS)
    newest = registry.list_versions()[0]
    if newest.version != version.version:
        log.warning(
            "version %s is no challenger: version %s is newer; whoever wants it judged points the alias %s at it",
            version.version, newest.version, contracts.CHALLENGER_ALIAS,
        )  # fmt: skip
        return
    if champion is not None and champion.version == version.version:
        return
    expected = challenger.version if challenger else None
    if not registry.move_alias(contracts.CHALLENGER_ALIAS, version.version, expected=expected):
        raise RegistryError(
            f"The alias {contracts.CHALLENGER_ALIAS} was moved just now; a retry looks again."
        )
    log.info("version %s of %s is the challenger", version.version, contracts.REGISTERED_MODEL)


def _explain_failure(row: FineTuningJob) -> str:
    return f"{records.describe_failure(row)}; {contracts.TRY_AGAIN}"


def _find_job(row: FineTuningJob, order: Order, tuning: TuningApi) -> TuningJob | None:
    """Our own job at the provider; where an answer was lost, also one that has failed since it was asked for."""
    # As far as the clocks may differ.
    since = (row.asked_at - ANSWER_WITHIN).timestamp() if row.asked_at else None
    return tuning.find_job(order, since=since)


def _ask(row: FineTuningJob) -> datetime:
    """Note that a job is about to be asked for; when."""
    now = utc_now()
    if row.asked_at is not None and now < (again := row.asked_at + ANSWER_WITHIN):
        raise TuningUnavailableError(
            f"A job was asked for at {row.asked_at:%H:%M:%S} and no answer came; the provider lists none yet. "
            f"Not before {again:%H:%M:%S} UTC is another asked for."
        )
    row.asked_at = now
    return now


def _upload_files(session: Session, order: Order, tuning: TuningApi) -> tuple[str, str]:
    files = records.get_training_set(session, order.training_set)
    # The digest in the name lets a retry find the file again, and says at the provider what it is.
    stem = order.training_set[:16]
    return (
        tuning.upload_file(Path(files.train_file), f"{stem}-train.jsonl"),
        tuning.upload_file(Path(files.validation_file), f"{stem}-validation.jsonl"),
    )


def _create_job(
    order: Order,
    request: tuple[str, str, str],
    asked_at: datetime,
    sessions: sessionmaker[Session],
    tuning: TuningApi,
) -> TuningJob:
    started = time.monotonic()
    try:
        with sessions.begin() as session:
            row = records.reserve_job(session, order)
            if row.asked_at is None or row.asked_at != asked_at:
                raise TuningUnavailableError("Another task was faster to ask for this job.")
            job = tuning.create_job(order, *request)
            records.attach_job(row, job)
    except TuningError:  # refused: there is no answer to wait for
        with sessions.begin() as session:
            records.reserve_job(session, order).asked_at = None
        raise
    log.info(
        "job %s created: model %s, %d epochs (%.1f s)",
        job.id, order.model, order.n_epochs, time.monotonic() - started,
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
