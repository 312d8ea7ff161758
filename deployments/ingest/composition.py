"""What a task of ingest works with, built from the settings once per task: the one place that picks the real adapters.

It knows no rule; nothing is built at import.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest.connectors.port import Connector, Environment
from deployments.ingest.formats.port import Extractor
from deployments.ingest.handover import Handover
from deployments.ingest.model import Extraction, Passage, Problem, Source
from deployments.ingest.publication import AssetEvents
from shared.llm.port import Llm
from shared.settings import Settings
from shared.vectors.port import VectorStore


@dataclass(frozen=True)
class Formats:
    """How bytes become passages."""

    find_extractor: Callable[
        [str, str, bytes], Extractor
    ]  # of a name, a media type, the bytes; UnreadableError
    split: Callable[[Extraction], Sequence[Passage]]
    describe_recipe: Callable[[Extractor], str]


@dataclass(frozen=True)
class Ingest:
    """The ports and settings of a task; tests build it with fakes."""

    sessions: sessionmaker[Session]
    store: VectorStore
    llm: Llm
    embedding_model: str
    handover: Handover
    formats: Formats
    # As they are declared now, and what is wrong with the declarations.
    list_sources: Callable[[], tuple[Sequence[Source], Sequence[Problem]]]
    connect: Callable[[Source], Connector]  # who asks closes it
    training: AssetEvents
    removal_share: float = 0.5  # more of a source's documents than this wait for a person


@contextmanager
def build_ingest(settings: Settings) -> Iterator[Ingest]:
    """The real parts; connections are made when they are first used, and closed at the end."""
    from deployments.ingest.connectors.registry import build_connector
    from deployments.ingest.declarations import SOURCES_FILE, read_declarations, read_removal_share
    from deployments.ingest.formats.registry import find_extractor
    from deployments.ingest.recipe import describe_recipe
    from deployments.ingest.splitting import split
    from shared.airflow import AirflowApi
    from shared.ledger.sessions import create_sessions
    from shared.llm.openai import OpenAiLlm
    from shared.uploads import Uploads
    from shared.vectors.weaviate import WeaviateStore

    secrets = settings.secrets
    content_dir, state_dir = settings.content_dir.absolute(), settings.state_dir.absolute()
    declared = content_dir / SOURCES_FILE
    environment = Environment(content_dir, state_dir, settings.uploads_root, settings.find_source_secret)
    with ExitStack() as stack:
        sessions = create_sessions(settings.ledger_dsn)
        stack.callback(sessions.kw["bind"].dispose)
        store = WeaviateStore(
            host=settings.weaviate_host,
            port=settings.weaviate_port,
            grpc_port=settings.weaviate_grpc_port,
            api_key=secrets.weaviate_api_key.get_secret_value(),
        )
        stack.callback(store.close)
        yield Ingest(
            sessions=sessions,
            store=store,
            llm=OpenAiLlm(
                settings.llm_base_url,
                secrets.llm_api_key.get_secret_value(),
                timeout=settings.request_timeout,
            ),
            embedding_model=settings.embedding_model,
            handover=Handover(settings.handover_url or f"file://{state_dir}/ingest/runs"),
            formats=Formats(find_extractor, split, describe_recipe),
            list_sources=lambda: read_declarations(
                declared, content_dir / "knowledge", Uploads(settings.uploads_root)
            ),
            connect=lambda source: build_connector(source, environment),
            training=AirflowApi(
                settings.training_url,
                settings.training_service_user,
                secrets.training_service_password.get_secret_value(),
            ),
            removal_share=read_removal_share(declared),
        )
