"""Chooses the vendors behind the desk's ports; the only module of this deployment that names them.

It connects to nothing: each port does so on first use, so the pages are up although others are not.
"""

from functools import partial

from deployments.serving.desk import Desk
from deployments.serving.health import read_endpoint
from deployments.serving.lineage import SpoolRunLog
from deployments.serving.models import ModelChooser
from deployments.serving.sign_in import SignIns
from deployments.serving.writer import Writer
from shared.airflow import AirflowApi
from shared.ledger.sessions import create_sessions
from shared.lineage import LineageSpool
from shared.llm.openai import OpenAiLlm
from shared.registry.mlflow import MlflowRegistry
from shared.retrieval_settings import load_retrieval_settings
from shared.settings import Settings
from shared.vectors.weaviate import WeaviateStore
from shared.voice import load_voice

DEPLOYMENT = "serving"


def build_desk(settings: Settings) -> Desk:
    """The desk for this installation. Raises VoiceError where `voice.toml` can't be used."""
    secrets = settings.secrets
    read_voice = partial(load_voice, settings.content_dir / "voice.toml")
    read_voice()
    llm = OpenAiLlm(
        settings.llm_base_url,
        secrets.llm_api_key.get_secret_value(),
        timeout=settings.request_timeout,
        max_retries=1,
    )
    registry = MlflowRegistry(settings.mlflow_url, timeout=10, max_retries=1)
    sessions = create_sessions(settings.ledger_dsn)
    writer = Writer(
        read_voice=read_voice,
        read_retrieval=partial(load_retrieval_settings, settings.content_dir / "retrieval.toml"),
        llm=llm,
        embedding_model=settings.embedding_model,
        store=WeaviateStore(
            settings.weaviate_host,
            settings.weaviate_port,
            settings.weaviate_grpc_port,
            secrets.weaviate_reader_key.get_secret_value(),
        ),
        models=ModelChooser(registry, llm, settings.chat_model),
        sessions=sessions,
        runs=SpoolRunLog(LineageSpool(settings.lineage_spool_dir, DEPLOYMENT)),
    )
    return Desk(
        read_voice=read_voice,
        writer=writer,
        llm=llm,
        image_model=settings.image_model,
        registry=registry,
        sessions=sessions,
        ingest=AirflowApi(
            settings.ingest_url,
            settings.ingest_service_user,
            secrets.ingest_service_password.get_secret_value(),
        ),
        knowledge_dir=settings.content_dir / "knowledge",
        sign_ins=SignIns(settings.admin_user, lambda: settings.secrets.admin_password.get_secret_value()),
        endpoints={
            "postgres": read_endpoint(settings.ledger_url),
            "weaviate": (settings.weaviate_host, settings.weaviate_port),
            "llm": read_endpoint(settings.llm_base_url),
            "mlflow": read_endpoint(settings.mlflow_url),
            "ingest": read_endpoint(settings.ingest_url),
        },
        links=_list_links(settings),
    )


def _list_links(settings: Settings) -> dict[str, str]:
    links = {
        "Airflow: ingest": settings.ingest_url,
        "Airflow: training": settings.training_url,
        "MLflow": settings.mlflow_url,
        "Marquez": settings.marquez_web_url,
    }
    return {name: url for name, url in links.items() if url}
