"""The labelled questions, asked of a knowledge base on fakes."""

import json
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest.measuring import measure_knowledge
from deployments.ingest.quality import Quality
from shared.contracts import LOCAL_EMBEDDING_MODEL, chunk_id
from shared.knowledge import select_in_collection
from shared.ledger.models import Base, CollectionDocument, DocumentVersion, KnowledgeCollection
from shared.ledger.sessions import create_sessions
from shared.llm.fake import FakeLlm
from shared.retrieval import Select
from shared.retrieval_settings import RetrievalSettings
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk

TEXTS = {
    "a": "an asset event wakes each dag that is scheduled on it",
    "b": "an alias points at one version of a model",
    "copy": "An alias points at one version of a model!",
}
SETTINGS = RetrievalSettings.model_validate({"rerank": {"least_relevance": 0.5}})


@pytest.fixture
def sessions(tmp_path: Path) -> sessionmaker[Session]:
    made = create_sessions(f"sqlite:///{tmp_path / 'ledger.db'}")
    Base.metadata.create_all(made.kw["bind"])
    with made.begin() as session:
        for uri in TEXTS:
            session.add(
                DocumentVersion(
                    uri=uri, source="s", title=uri, content_hash="0" * 64, size=1, chunks=1, ingest_run="r",
                    recipe="old",
                )
            )  # fmt: skip
    return made


def fill(recipe: str) -> FakeVectorStore:
    store = FakeVectorStore()
    vectors = FakeLlm().embed(LOCAL_EMBEDDING_MODEL, list(TEXTS.values()))
    store.write(
        [
            EmbeddedChunk(
                Chunk(chunk_id(uri, "0" * 64, 0, recipe), uri, "0" * 64, 0, "s", uri, "", text, recipe),
                vector,
            )
            for (uri, text), vector in zip(TEXTS.items(), vectors, strict=True)
        ]
    )
    return store


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [
        {"question": "what wakes a dag", "answers": {"a": 2}},
        {"question": "what an alias points at", "answers": {"b": 2, "copy": 2}},
        {"question": "of another knowledge", "answers": {"gone": 2}},
        {"question": "chocolate cake", "answers": {}},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def ask(
    questions: Path, sessions: sessionmaker[Session], store: FakeVectorStore, select: Select | None = None
) -> Quality | None:
    return measure_knowledge(
        questions, llm=FakeLlm(), embedding_model=LOCAL_EMBEDDING_MODEL, store=store, sessions=sessions,
        settings=SETTINGS, **({"select": select} if select else {}),
    )  # fmt: skip


def test_what_posts_are_written_from_is_measured(questions: Path, sessions: sessionmaker[Session]) -> None:
    quality = ask(questions, sessions, fill("old"))
    assert quality is not None
    assert (quality.answerable, quality.unanswerable) == (2, 1)
    assert quality.ndcg == quality.recall == 1  # the copy counts, although it is shown once
    assert quality.refusal_recall == quality.refusal_precision == 1


def test_a_collection_is_measured_before_it_is_served(
    questions: Path, sessions: sessionmaker[Session]
) -> None:
    unseen = ask(questions, sessions, fill("new"))
    assert unseen is not None and unseen.recall == 0
    with sessions.begin() as session:
        session.add(
            KnowledgeCollection(
                id=7,
                name="Chunk_v2",
                embedding_model="m",
                dimensions=64,
                splitting="new",
                state="building",
                run="r",
            )
        )
        session.flush()
        for uri in TEXTS:
            row = CollectionDocument(collection=7, uri=uri, content_hash="0" * 64, recipe="new", chunks=1)
            session.add(row)
    seen = ask(questions, sessions, fill("new"), select_in_collection(7))
    assert seen is not None and seen.recall == 1


def test_of_a_teams_own_documents_nothing_is_measured(
    tmp_path: Path, sessions: sessionmaker[Session]
) -> None:
    assert ask(tmp_path / "none.jsonl", sessions, fill("old")) is None
    (tmp_path / "other.jsonl").write_text(
        '{"question": "x", "answers": {"gone": 2}}\n{"question": "y", "answers": {}}'
    )
    assert ask(tmp_path / "other.jsonl", sessions, fill("old")) is None
