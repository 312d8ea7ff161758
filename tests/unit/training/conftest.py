"""A small world for the training deployment: voice, examples, ledger, fakes."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Airflow reads these when it is first imported; a test must not touch a real installation.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from deployments.training import records
from deployments.training.jobs import Purchase
from deployments.training.preparing import Prepared, prepare_examples
from deployments.training.proposals import read_proposal
from deployments.training.sets import HoldoutExample
from deployments.training.tracking.fake import FakeTracker
from deployments.training.tuning.fake import FakeTuning
from shared.ledger.models import Base, FineTuningJob, KnowledgeVersion
from shared.ledger.sessions import create_ledger_engine
from shared.registry.fake import FakeRegistry
from shared.vectors.port import Chunk
from shared.voice import Voice

Sessions = sessionmaker[Session]
GOOD = "Field note: a hook in some words.\n\nWhat do you say?\n\n#FieldNotes #Airflow"
WORDS = ["apple", "bridge", "cloud", "delta", "ember", "forest", "garden", "harbor", "island", "jungle"]


@pytest.fixture
def voice() -> Voice:
    return Voice.model_validate(
        {
            "name": "Field Notes",
            "speaker": "an engineer",
            "description": "calm",
            "opener": "Field note:",
            "min_words": 5,
            "max_words": 30,
            "hashtags": ["#FieldNotes"],
            "format": {"rules": "One hook."},
            "picture": {"style": "plain"},
            "budget": {"max_training_cost": 1.0, "price_per_million_tokens": 3.0, "n_epochs": 2},
            "topics": {"suggested": ["assets"]},
        }
    )


@pytest.fixture
def sessions(tmp_path: Path) -> sessionmaker[Session]:
    engine = create_ledger_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    # Nothing here outlives a crash of the machine: waiting for the disk is most of a test's time.
    pragmas = "PRAGMA foreign_keys=ON; PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY"
    event.listen(engine, "connect", lambda connection, _: connection.executescript(pragmas))
    Base.metadata.create_all(engine)
    return sessionmaker(engine, expire_on_commit=False)


@pytest.fixture
def knowledge(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.add(KnowledgeVersion(digest="d", documents=1, chunks=1, ingest_run="r"))


def write_example(content: Path, split: str, name: str, text: str) -> Path:
    path = content / "examples" / split / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\ntopic: about {name}\n---\n{text}\n", encoding="utf-8")
    return path


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """Five train, five validation and five holdout posts that have little in common."""
    folder = tmp_path / "content"
    for split in ("train", "validation", "holdout"):
        for number in range(6):
            words = [f"{word}{split}{number}" for word in WORDS]
            write_example(folder, split, f"{split}-{number}", f"Field note: {' '.join(words)}?")
    return folder


def find_one_chunk(topic: str, text: str = "a fact") -> list[Chunk]:
    return [Chunk("id-1", "knowledge://g/a.md", "h" * 64, 0, "g", "Guide", "", text)]


Prepare = Callable[..., Prepared]


@pytest.fixture
def prepare(tmp_path: Path, content: Path, voice: Voice, sessions: sessionmaker[Session]) -> Prepare:
    def do(**changes: object) -> Prepared:
        arguments: dict[str, object] = {
            "content_dir": content,
            "sets_dir": tmp_path / "sets",
            "proposal_file": tmp_path / "proposal.json",
            "voice": voice,
            "model": "base",
            "sessions": sessions,
            "retrieve": find_one_chunk,
            "measure": lambda conversations: None,
            "knows_model": lambda model: True,
            "run": "run-1",
        }
        return prepare_examples(**{**arguments, **changes})  # type: ignore[arg-type]

    return do


@pytest.fixture
def purchase(prepare: Prepare, knowledge: None, tmp_path: Path) -> Purchase:
    prepare()
    order = read_proposal(tmp_path / "proposal.json").order
    assert order is not None
    return Purchase(order, tokens=500, price=0.5, currency="USD")


class NotingTracker(FakeTracker):
    """Notes where a data set lies, too."""

    def __init__(self) -> None:
        super().__init__()
        self.located: list[tuple[Any, ...]] = []

    def log_dataset(
        self, run_id: str, name: str, digest: str, location: str, counts: Mapping[str, Any]
    ) -> None:
        super().log_dataset(run_id, name, digest, location, counts)
        self.located.append((run_id, name, digest, location, dict(counts)))


@pytest.fixture
def tracker() -> NotingTracker:
    return NotingTracker()


@pytest.fixture
def tuning() -> FakeTuning:
    return FakeTuning()


def read_row(sessions: Sessions, purchase: Purchase) -> FineTuningJob:
    with sessions() as session:
        row = records.find_job(session, purchase.order)
    assert row is not None
    return row


def write_holdout(size: int) -> list[HoldoutExample]:
    """Posts that `GOOD` is as good as."""
    return [
        HoldoutExample([{"role": "user", "content": f"Facts:\nx\n\nTopic: topic {n}"}], f"{GOOD}{n}")
        for n in range(size)
    ]


def register_three() -> FakeRegistry:
    """Versions 1 to 3, each of a training set and a job of its own, without an alias."""
    registry = FakeRegistry()
    for number in (1, 2, 3):
        registry.register(
            model_id=f"ft:{number}", run_id="r", training_set=f"set-{number}", job_id=f"job-{number}"
        )
    return registry
