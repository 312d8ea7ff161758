"""Builds the ingest deployment's parts from the settings: the one place that picks the real adapters.

It knows no rule; everything is built when asked for, nothing at import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from shared.llm.port import Llm
from shared.settings import Settings
from shared.vectors.port import VectorStore


def create_ledger(settings: Settings) -> sessionmaker[Session]:
    """The ledger."""
    from shared.ledger.sessions import create_sessions

    return create_sessions(settings.ledger_dsn)


def create_llm(settings: Settings) -> Llm:
    """The provider of embeddings."""
    from shared.llm.openai import OpenAiLlm

    key = settings.secrets.llm_api_key.get_secret_value()
    return OpenAiLlm(settings.llm_base_url, key, timeout=settings.request_timeout)


@contextmanager
def open_store(settings: Settings) -> Iterator[VectorStore]:
    """The vector store with the writer's key, closed at the end."""
    from shared.vectors.weaviate import WeaviateStore

    store = WeaviateStore(
        host=settings.weaviate_host,
        port=settings.weaviate_port,
        grpc_port=settings.weaviate_grpc_port,
        api_key=settings.secrets.weaviate_api_key.get_secret_value(),
    )
    try:
        yield store
    finally:
        store.close()


def knowledge_dir(settings: Settings) -> Path:
    """Where the sources lie."""
    return settings.content_dir.absolute() / "knowledge"
