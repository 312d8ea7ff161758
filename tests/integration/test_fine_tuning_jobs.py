"""Buying a job on a real Postgres: two tasks at once, and a kill in the middle of the purchase, buy one job."""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy.orm import Session, sessionmaker

from deployments.training import records
from deployments.training.jobs import attach_or_create, release_jobs
from deployments.training.proposals import Order
from deployments.training.tuning.fake import FakeTuning
from deployments.training.tuning.port import TuningJob, TuningUnavailableError
from shared.ledger.__main__ import build_alembic_config
from shared.ledger.sessions import create_sessions
from tests.postgres_server import Postgres, serve_postgres, wait_for

ORDER = Order("d" * 64, "base", 2, 1.0, "notes")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with serve_postgres() as server:
        yield server


@pytest.fixture
def sessions(postgres: Postgres, tmp_path: Path) -> Iterator[sessionmaker[Session]]:
    """A ledger with one frozen training set."""
    config = build_alembic_config(postgres.dsn)
    command.upgrade(config, "head")
    sessions = create_sessions(postgres.dsn)
    files = {}
    for split in ("train", "validation", "holdout"):
        files[split] = tmp_path / f"{split}.jsonl"
        files[split].write_text("{}\n")
    with sessions.begin() as session:
        records.save_training_set(session, ORDER.training_set, files, [], {"train": 1}, "p", "run")  # type: ignore[arg-type]
    yield sessions
    sessions.kw["bind"].dispose()
    command.downgrade(config, "base")


class SlowTuning(FakeTuning):
    """Takes its time to make a job; each one is a line in `log`, which outlives the process that asked."""

    def __init__(self, log: Path, seconds: float) -> None:
        super().__init__()
        self.log, self.seconds = log, seconds

    def create_job(self, order: Order, training_file: str, validation_file: str, key: str) -> TuningJob:
        with self.log.open("a") as file:
            file.write("created\n")
        time.sleep(self.seconds)
        return super().create_job(order, training_file, validation_file, key)


def try_until_attached(sessions: sessionmaker[Session], tuning: FakeTuning) -> str:
    """As Airflow retries."""
    for _ in range(60):
        try:
            return attach_or_create(ORDER, sessions, tuning).id
        except TuningUnavailableError:
            time.sleep(0.1)
    raise AssertionError("never attached")


def test_tasks_side_by_side_buy_one_job(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    tuning = SlowTuning(tmp_path / "log", 0.5)
    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(lambda _: try_until_attached(sessions, tuning), range(6)))
    assert ids == set(tuning.jobs) == {"ftjob-1"}


def test_a_start_by_hand_beside_a_purchase_buys_nothing_more(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    tuning = SlowTuning(tmp_path / "log", 1.0)
    with ThreadPoolExecutor(1) as pool:
        buying = pool.submit(attach_or_create, ORDER, sessions, tuning)
        wait_for(tuning.log.exists)
        assert release_jobs(sessions, tuning) == 0
        assert buying.result().id == try_until_attached(sessions, tuning)
    assert len(tuning.jobs) == 1


def test_a_kill_during_the_purchase_buys_one_job(
    postgres: Postgres, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    """The provider made the job; the worker that asked is gone, and the list does not have it yet."""
    log = tmp_path / "log"

    def buy() -> None:
        attach_or_create(ORDER, create_sessions(postgres.dsn), SlowTuning(log, 60))

    worker = multiprocessing.get_context("fork").Process(target=buy)
    worker.start()
    wait_for(log.exists)
    worker.kill()
    worker.join(20)

    tuning = SlowTuning(log, 0)
    for _ in range(3):
        with pytest.raises(TuningUnavailableError, match="no answer came"):
            attach_or_create(ORDER, sessions, tuning)
    tuning.jobs["ftjob-9"] = TuningJob("ftjob-9", "running", "base", 1, metadata=ORDER.metadata)
    assert attach_or_create(ORDER, sessions, tuning).id == "ftjob-9"
    assert log.read_text() == "created\n"
