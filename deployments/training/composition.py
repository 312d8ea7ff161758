"""Builds the training deployment's parts from the settings: the one place that picks the real adapters.

It knows no rule; everything is built when asked for, nothing at import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from deployments.training.tracking.port import Tracker
from deployments.training.tuning.port import TuningApi
from shared import contracts
from shared.llm.port import Llm
from shared.registry.port import ModelRegistry
from shared.settings import Settings
from shared.vectors.port import VectorStore
from shared.voice import Voice, load_voice


def create_ledger(settings: Settings) -> sessionmaker[Session]:
    """The ledger."""
    from shared.ledger.sessions import create_sessions

    return create_sessions(settings.ledger_dsn)


def create_llm(settings: Settings) -> Llm:
    """The provider of chat and embeddings."""
    from shared.llm.openai import OpenAiLlm

    key = settings.secrets.llm_api_key.get_secret_value()
    return OpenAiLlm(settings.llm_base_url, key, timeout=settings.request_timeout)


def create_tuning(settings: Settings) -> TuningApi:
    """The provider of fine-tuning jobs."""
    from deployments.training.tuning.openai import OpenAiTuning

    return OpenAiTuning(settings.llm_base_url, settings.secrets.llm_api_key.get_secret_value())


def create_tracker(settings: Settings) -> Tracker:
    """The experiment tracker."""
    from deployments.training.tracking.mlflow import MlflowTracker

    return MlflowTracker(settings.mlflow_url, contracts.TRAINING_EXPERIMENT)


def create_registry(settings: Settings) -> ModelRegistry:
    """The model registry."""
    from shared.registry.mlflow import MlflowRegistry

    return MlflowRegistry(settings.mlflow_url)


@contextmanager
def open_store(settings: Settings) -> Iterator[VectorStore]:
    """The vector store, closed at the end."""
    from shared.vectors.weaviate import WeaviateStore

    store = WeaviateStore(
        host=settings.weaviate_host,
        port=settings.weaviate_port,
        grpc_port=settings.weaviate_grpc_port,
        api_key=settings.secrets.weaviate_reader_key.get_secret_value(),
    )
    try:
        yield store
    finally:
        store.close()


def load_team_voice(settings: Settings) -> Voice:
    """The team's voice."""
    return load_voice(settings.content_dir / "voice.toml")


def training_dir(settings: Settings) -> Path:
    """Where training sets and the latest proposal lie."""
    return settings.state_dir.absolute() / "training"


def proposal_file(settings: Settings) -> Path:
    """The latest proposal."""
    return training_dir(settings) / "proposal.json"
