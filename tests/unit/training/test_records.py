"""What the ledger keeps of training sets and jobs, row by row."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker

from deployments.training import records
from deployments.training.jobs import Purchase
from deployments.training.preparation import ContextItem
from deployments.training.proposals import Order
from deployments.training.tuning.port import TuningJob
from shared.ledger.models import FineTuningJob, KnowledgeVersion, PinnedContext, TrainingSet, utc_now

Sessions = sessionmaker[Session]
ITEM = ContextItem("id-1", "knowledge://g/a.md", "hash", "Guide", "a fact")
FILES: Any = {"train": Path("s/t"), "validation": Path("s/v"), "holdout": Path("s/h")}
EMPTY = dict.fromkeys(
    ("error", "model_id", "mlflow_run_id", "model_version", "trained_tokens", "seconds", "finished_at")
)


def read_row(row: FineTuningJob) -> dict[str, Any]:
    """All that a job may change of its row."""
    return {name: getattr(row, name) for name in ("status", "job_id", "asked_at", *EMPTY)}


@pytest.fixture
def row(purchase: Purchase) -> FineTuningJob:
    """A row that no session holds."""
    order = purchase.order
    return FineTuningJob(
        training_set=order.training_set, settings_digest=order.settings_digest, status="reserved"
    )


def test_a_context_is_pinned_once_and_read_back_whole(sessions: Sessions) -> None:
    with sessions.begin() as session:
        records.pin_contexts(session, {"a": [ITEM], "b": []})
    with sessions.begin() as session:
        records.pin_contexts(session, {"a": [], "c": [ITEM, ITEM]})
    with sessions() as session:
        assert records.load_contexts(session, ["a", "c", "d"]) == {"a": [ITEM], "c": [ITEM, ITEM]}
        kept = session.get_one(PinnedContext, "a").chunks
    assert kept == [
        {
            "chunk_id": "id-1",
            "uri": "knowledge://g/a.md",
            "content_hash": "hash",
            "title": "Guide",
            "text": "a fact",
        }
    ]


def test_a_training_set_is_recorded_once(sessions: Sessions) -> None:
    for run in ("run-1", "run-2"):
        with sessions.begin() as session:
            records.save_training_set(session, "digest", FILES, [{"path": "a.md"}], {"train": 1}, "p1", run)
    with sessions() as session:
        found = records.get_training_set(session, "digest")
        assert isinstance(found, TrainingSet)
        assert (found.train_file, found.validation_file, found.holdout_file) == ("s/t", "s/v", "s/h")
        assert (found.examples, found.counts) == ([{"path": "a.md"}], {"train": 1})
        assert (found.prompt_version, found.run) == ("p1", "run-1")
        with pytest.raises(LookupError) as error:
            records.get_training_set(session, "other")
    assert str(error.value) == "The ledger has no training set other; run the Dag prepare_examples."


def test_knowledge_is_there_once_an_ingest_run_has_finished(sessions: Sessions) -> None:
    with sessions.begin() as session:
        assert records.has_knowledge(session) is False
        session.add(KnowledgeVersion(digest="d", documents=1, chunks=1, ingest_run="r"))
        assert records.has_knowledge(session) is True


def test_a_row_belongs_to_a_training_set_and_its_settings(purchase: Purchase, sessions: Sessions) -> None:
    order = purchase.order
    others = [
        Order("other-set", order.model, order.n_epochs, order.learning_rate_multiplier, order.suffix),
        Order(
            order.training_set, order.model, order.n_epochs + 1, order.learning_rate_multiplier, order.suffix
        ),
    ]
    with sessions.begin() as session:
        records.save_training_set(session, "other-set", FILES, [], {}, "p1", "run")
    with sessions.begin() as session:
        assert records.find_job(session, order) is None
        rows = [records.reserve_job(session, each) for each in (order, *others)]
        assert len({row.id for row in rows}) == 3
        assert records.reserve_job(session, order) is records.find_job(session, order) is rows[0]
        assert (rows[0].training_set, rows[0].settings_digest) == (order.training_set, order.settings_digest)
        assert read_row(rows[0]) == {"status": "reserved", "job_id": None, "asked_at": None, **EMPTY}


def test_rows_are_read_with_a_lock(purchase: Purchase, sessions: Sessions) -> None:
    """SQLite has none, so the question is looked at as Postgres gets it."""
    asked: list[str] = []

    def note(state: ORMExecuteState) -> None:
        if state.is_select:
            asked.append(str(state.statement.compile(dialect=postgresql.dialect())).split("WHERE")[-1])

    with sessions.begin() as session:
        event.listen(session, "do_orm_execute", note)
        records.reserve_job(session, purchase.order)
        records.find_job_by_id(session, "ftjob-1")
        records.find_unsettled_jobs(session)
    assert len(asked) == 4
    assert all(text.endswith(" FOR UPDATE") for text in asked[:3])
    assert asked[3].endswith(" FOR UPDATE SKIP LOCKED")


def test_an_attached_job_takes_the_place_of_the_one_before(row: FineTuningJob) -> None:
    row.asked_at = utc_now()
    records.attach_job(row, TuningJob("ftjob-1", "queued", "base", 1))
    assert read_row(row) == {"status": "queued", "job_id": "ftjob-1", "asked_at": None, **EMPTY}
    records.finish_job(row, TuningJob("ftjob-1", "failed", "base", 1, error="x"))
    row.mlflow_run_id = "run-1"
    before = read_row(row)
    records.attach_job(row, TuningJob("ftjob-1", "failed", "base", 1))  # it has ended: nothing new
    assert read_row(row) == before
    records.attach_job(row, TuningJob("ftjob-2", "succeeded", "base", 1))
    assert read_row(row) == {"status": "reserved", "job_id": "ftjob-2", "asked_at": None, **EMPTY}


def test_the_end_of_a_job_is_kept_whole(row: FineTuningJob) -> None:
    row.asked_at = utc_now()
    job = TuningJob("ftjob-1", "succeeded", "base", 1, fine_tuned_model="ft:1", trained_tokens=900)
    records.finish_job(row, job, model_version="7", seconds=60.0)
    assert row.finished_at is not None and utc_now() - row.finished_at < timedelta(minutes=1)
    assert read_row(row) == {
        "status": "succeeded", "job_id": "ftjob-1", "asked_at": None, "error": None, "model_id": "ft:1",
        "mlflow_run_id": None, "model_version": "7", "trained_tokens": 900, "seconds": 60.0,
        "finished_at": row.finished_at,
    }  # fmt: skip
    records.finish_job(row, job)
    assert (row.status, row.error, row.model_version, row.seconds) == (
        "failed", "it succeeded, but names no model", None, None,
    )  # fmt: skip


def test_a_long_error_is_cut_to_what_a_person_reads(row: FineTuningJob) -> None:
    records.finish_job(row, TuningJob("ftjob-1", "failed", "base", 1, error="x" * 1001))
    assert (row.status, row.error) == ("failed", "x" * 1000)
    records.finish_job(row, TuningJob("ftjob-1", "cancelled", "base", 1))
    assert (row.status, row.error) == ("cancelled", None)


@pytest.mark.parametrize(
    ("status", "version", "settled"),
    [
        ("failed", None, True),
        ("cancelled", None, True),
        ("succeeded", "7", True),
        ("succeeded", None, False),
        ("running", None, False),
        ("running", "7", False),
        ("reserved", None, False),
    ],
)
def test_a_job_is_settled_when_nothing_is_left_to_do(
    row: FineTuningJob, status: str, version: str | None, settled: bool
) -> None:
    row.status, row.model_version = status, version
    assert records.is_settled(row) is settled
    assert records.is_settled(None) is False


def test_a_failure_is_described(row: FineTuningJob) -> None:
    row.job_id, row.status = "ftjob-1", "cancelled"
    assert records.describe_failure(row) == "Job ftjob-1 has been cancelled"
    row.status, row.error = "failed", "out of memory"
    assert records.describe_failure(row) == "Job ftjob-1 has failed: out of memory"


def test_only_what_nobody_has_seen_through_is_unsettled_and_only_failures_are_released(
    purchase: Purchase, sessions: Sessions
) -> None:
    rows = {
        "none": ("reserved", None, None), "runs": ("running", "ftjob-1", None), "done": ("succeeded", "ftjob-2", "7"),
        "lost": ("succeeded", "ftjob-3", None), "bad": ("failed", "ftjob-4", None),
        "off": ("cancelled", "ftjob-5", None),
    }  # fmt: skip
    with sessions.begin() as session:
        for name, (status, job_id, version) in rows.items():
            session.add(
                FineTuningJob(
                    training_set=purchase.order.training_set, settings_digest=name, status=status, job_id=job_id,
                    model_version=version,
                )
            )  # fmt: skip
    with sessions.begin() as session:
        assert [row.settings_digest for row in records.find_unsettled_jobs(session)] == ["runs", "lost"]
        found = records.find_job_by_id(session, "ftjob-4")
        assert found is not None and found.settings_digest == "bad"
        assert records.find_job_by_id(session, "ftjob-9") is None
        assert records.release_failed_jobs(session) == 2
    with sessions() as session:
        left = session.query(FineTuningJob.settings_digest).order_by(FineTuningJob.id)
        assert [name for (name,) in left] == ["none", "runs", "done", "lost"]
