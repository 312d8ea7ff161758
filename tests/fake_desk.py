"""A whole desk on fakes and a SQLite ledger, for tests of the desk's rules, interface and pages.

It knows no network.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import delete
from sqlalchemy.orm import Session, sessionmaker

from deployments.serving.desk import Desk
from deployments.serving.lineage import SpoolRunLog
from deployments.serving.models import ModelChooser
from deployments.serving.sign_in import SignIns
from deployments.serving.writer import Writer
from shared import contracts
from shared.ledger.models import (
    Base,
    DocumentVersion,
    FineTuningJob,
    KnowledgeProblem,
    KnowledgeVersion,
    LineageEvent,
    TrainingSet,
)
from shared.ledger.sessions import create_sessions
from shared.lineage import LineageSpool, build_event, dataset_facets
from shared.llm.fake import FakeLlm
from shared.registry.fake import FakeRegistry
from shared.registry.port import ModelRegistry, ModelVersion, RegistryError
from shared.retrieval_settings import load_retrieval_settings
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk
from shared.voice import load_voice

PASSWORD = "correct horse"
BASE_ANSWER = "Assets are a way to schedule a Dag when data changes."
TUNED_ANSWER = (
    "Field note: stop guessing when the data is ready. An Airflow asset wakes every Dag that is scheduled on it, "
    "as soon as a task has updated it. Which of your schedules still guesses?\n\n#FieldNotes #Airflow"
)
DOCUMENTS = {
    "assets.md": (
        "Assets",
        "An asset event wakes every Dag that is scheduled on the asset. Assets replaced datasets.",
    ),
    "aliases.md": (
        "Model aliases",
        "An MLflow alias such as champion points at one version of a registered model.",
    ),
    "hybrid.md": (
        "Hybrid search",
        "Weaviate mixes BM25 and vector scores; alpha 0 is keywords, alpha 1 is vectors.",
    ),
}


class RecordingAirflow:
    """Keeps the runs that it is asked for, as (Dag, configuration); fails while `down` is set."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.runs: list[dict[str, Any]] = []
        self.down = False

    def trigger(self, dag_id: str, conf: Mapping[str, Any], *, run_id: str) -> str:
        self.events.append((dag_id, dict(conf)))
        self.runs.append({"dag_run_id": run_id, "state": "running"})
        return run_id

    def list_dag_runs(self, dag_id: str) -> list[dict[str, Any]]:
        if self.down:
            raise RuntimeError("ingest can't be reached")
        return list(reversed(self.runs))


class BrokenRegistry(FakeRegistry):
    """A registry that can be taken down."""

    down = False

    def get_by_alias(self, alias: str) -> ModelVersion | None:
        self._check()
        return super().get_by_alias(alias)

    def get_version(self, version: str) -> ModelVersion | None:
        self._check()
        return super().get_version(version)

    def _check(self) -> None:
        if self.down:
            raise RegistryError("MLflow can't be reached.")


@dataclass
class FakeWorld:
    """The desk and what stands behind it, for a test to look at and to break."""

    desk: Desk
    llm: FakeLlm
    store: FakeVectorStore
    registry: ModelRegistry
    airflow: RecordingAirflow
    sessions: sessionmaker[Session]
    spool: Path
    voice_file: Path
    password: str = PASSWORD
    seconds: float = 0.0  # the clock of who signs in


def make_world(folder: Path, *, documents: dict[str, tuple[str, str]] | None = None) -> FakeWorld:
    """A desk without a champion, its knowledge base filled with `documents`."""
    folder.mkdir(parents=True, exist_ok=True)
    voice_file = folder / "voice.toml"
    voice_file.write_text(
        (Path(__file__).parent.parent / "content" / "voice.toml").read_text("utf-8"), "utf-8"
    )
    sessions = create_sessions(f"sqlite:///{folder / 'ledger.db'}")
    Base.metadata.create_all(sessions.kw["bind"])
    llm = FakeLlm({"base-model": BASE_ANSWER, "tuned-1": TUNED_ANSWER, "tuned-2": TUNED_ANSWER})
    store = FakeVectorStore(created=False)
    registry = BrokenRegistry()
    airflow = RecordingAirflow()
    spool = folder / "spool"
    knowledge_dir = folder / "knowledge"
    (knowledge_dir / "guides").mkdir(parents=True)
    writer = Writer(
        read_voice=partial(load_voice, voice_file),
        read_retrieval=partial(load_retrieval_settings, folder / "retrieval.toml"),
        llm=llm,
        embedding_model="fake-embedding",
        store=store,
        models=ModelChooser(registry, llm, "base-model"),
        sessions=sessions,
        runs=SpoolRunLog(LineageSpool(spool, "serving")),
    )
    desk = Desk(
        read_voice=partial(load_voice, voice_file),
        writer=writer,
        llm=llm,
        image_model="card",
        registry=registry,
        sessions=sessions,
        ingest=airflow,
        knowledge_dir=knowledge_dir,
        sign_ins=SignIns("admin", lambda: world.password, lambda: world.seconds),
        endpoints={"nowhere": ("127.0.0.1", 9)},
        links={"MLflow": "http://127.0.0.1:5001"},
    )
    world = FakeWorld(desk, llm, store, registry, airflow, sessions, spool, voice_file)
    add_documents(world, DOCUMENTS if documents is None else documents)
    return world


def add_documents(world: FakeWorld, documents: dict[str, tuple[str, str]]) -> None:
    """Ingest documents of one chunk each, in the store and in the ledger."""
    if not documents:
        return
    chunks = []
    for name, (title, text) in documents.items():
        uri, digest = contracts.document_uri("guides", name), hashlib.sha256(text.encode()).hexdigest()
        chunks.append(Chunk(contracts.chunk_id(uri, digest, 0), uri, digest, 0, "guides", title, "", text))
    world.store.create_collection()
    vectors = world.llm.embed("fake-embedding", [chunk.text for chunk in chunks])
    world.store.write([EmbeddedChunk(chunk, vector) for chunk, vector in zip(chunks, vectors, strict=True)])
    ingested = datetime.now(UTC) - timedelta(minutes=5)
    with world.sessions.begin() as session:
        for chunk in chunks:
            session.add(
                DocumentVersion(
                    uri=chunk.uri, source="guides", title=chunk.title, content_hash=chunk.content_hash,
                    size=len(chunk.text), chunks=1, ingest_run="scheduled__1", ingested_at=ingested,
                )
            )  # fmt: skip
        session.add(
            KnowledgeVersion(
                digest="d" * 64, documents=len(chunks), chunks=len(chunks), ingest_run="scheduled__1"
            )
        )


def add_problem(world: FakeWorld, uri: str, message: str, removal: str | None = None) -> None:
    """A file that the latest run of ingest could not use, or a removal that it withheld."""
    with world.sessions.begin() as session:
        session.add(KnowledgeProblem(uri=uri, message=message, removal=removal, ingest_run="scheduled__1"))


def mend_problems(world: FakeWorld) -> None:
    """The next run could use every file."""
    with world.sessions.begin() as session:
        session.execute(delete(KnowledgeProblem))


def add_model(world: FakeWorld, number: int, alias: str) -> ModelVersion:
    """Register a fine-tuned model with its training set and job, and point an alias at it."""
    training_set = f"{number:064x}"
    version = world.registry.register(
        model_id=f"tuned-{number}",
        run_id=f"run-{number}",
        training_set=training_set,
        job_id=f"ftjob-{number}",
    )
    world.registry.set_alias(alias, version.version)
    with world.sessions.begin() as session:
        session.add(
            TrainingSet(
                digest=training_set, train_file="train.jsonl", validation_file="v.jsonl", holdout_file="h.jsonl",
                examples=[{"path": "train/assets.md", "split": "train", "digest": "e" * 64, "chunk_ids": []}],
                counts={"train": 1, "validation": 0, "holdout": 0}, prompt_version="p1", run="manual__7",
            )
        )  # fmt: skip
        session.flush()
        session.add(
            FineTuningJob(
                training_set=training_set, settings_digest="s" * 64, job_id=f"ftjob-{number}", status="succeeded",
                model_id=f"tuned-{number}", mlflow_run_id=f"run-{number}", model_version=version.version,
            )
        )  # fmt: skip
    return version


def add_lineage(world: FakeWorld) -> None:
    """A run of three jobs that connect documents and examples to posts, as the relay stores them."""
    jobs = [
        ("ingest", contracts.INGEST_NAMESPACE, "ingest.load", [contracts.DOCUMENTS], [contracts.CHUNKS]),
        ("training", contracts.TRAINING_NAMESPACE, "fine_tune.tune", [contracts.EXAMPLES], [contracts.MODEL]),
        ("serving", contracts.SERVING_NAMESPACE, "write_post", [contracts.CHUNKS, contracts.MODEL], [contracts.POSTS]),
    ]  # fmt: skip
    begin = datetime.now(UTC) - timedelta(minutes=3)
    with world.sessions.begin() as session:
        for number, (deployment, namespace, job, inputs, outputs) in enumerate(jobs):
            run_id = str(UUID(int=number + 1))
            for event_type, at in (("START", begin), ("COMPLETE", begin + timedelta(seconds=number + 1))):
                facets = {outputs[0]: dataset_facets(version=f"v{number}", row_count=7)}
                payload = build_event(
                    event_type, run_id, namespace, job, inputs, outputs, output_facets=facets, event_time=at
                )
                session.add(
                    LineageEvent(
                        digest=f"{run_id}-{event_type}",
                        deployment=deployment,
                        run_id=run_id,
                        job_namespace=namespace,
                        job_name=job,
                        event_type=event_type,
                        event_time=at,
                        payload=payload,
                    )
                )
