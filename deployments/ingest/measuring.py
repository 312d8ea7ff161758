"""Asks the labelled questions of the knowledge base, by the very search that posts are written from.

It knows no measure and no tracking server.
"""

from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest.quality import (
    DOCUMENTS,
    Find,
    Finding,
    Quality,
    load_questions,
    measure,
    select_askable,
)
from shared.knowledge import list_uris, select_visible
from shared.llm.port import Llm
from shared.retrieval import Select, retrieve
from shared.retrieval_settings import RetrievalSettings
from shared.vectors.port import VectorStore

_NO_BUDGET = 1_000_000


def measure_knowledge(
    questions: Path,
    *,
    llm: Llm,
    embedding_model: str,
    store: VectorStore,
    sessions: sessionmaker[Session],
    settings: RetrievalSettings,
    select: Select = select_visible,
) -> Quality | None:
    """How well the knowledge is found; None where no question is of it, as with a team's own documents.

    Some 0.25 s a question with reranking. For a collection that is not served yet, `store` is of it, and `select` is
    `knowledge.select_in_collection`. Raises QuestionsError, LlmError, VectorStoreError and SQLAlchemyError.
    """
    if not questions.exists():
        return None
    with sessions() as session:
        askable = select_askable(load_questions(questions), list_uris(session))
    if not any(one.answers for one in askable):
        return None
    find = build_find(
        llm=llm,
        embedding_model=embedding_model,
        store=store,
        sessions=sessions,
        settings=settings,
        select=select,
    )
    return measure(askable, find)


def build_find(
    *,
    llm: Llm,
    embedding_model: str,
    store: VectorStore,
    sessions: sessionmaker[Session],
    settings: RetrievalSettings,
    select: Select = select_visible,
) -> Find:
    """What answers a question: the search of `retrieve`, as many documents long as the measures look."""
    unlimited = settings.passages.model_copy(update={"max_tokens": _NO_BUDGET})
    settings = settings.model_copy(update={"passages": unlimited})

    def find(question: str) -> Finding:
        found = retrieve(
            question,
            llm=llm,
            embedding_model=embedding_model,
            store=store,
            sessions=sessions,
            settings=settings,
            top_k=DOCUMENTS,
            select=select,
        )
        uris = [uri for passage in found.passages for uri in (passage.chunk.uri, *passage.also_in)]
        return Finding(uris, found.answered)

    return find
