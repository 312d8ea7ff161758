"""Tells the training deployment that the knowledge base has a new version.

It knows no Airflow of its own: the client is handed in.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy.orm import Session, sessionmaker

from shared.contracts import IDEMPOTENCY_KEY, KNOWLEDGE_BASE_ASSET
from shared.knowledge import find_newest_version
from shared.ledger.models import utc_now

log = logging.getLogger(__name__)


class AssetEvents(Protocol):
    """Takes asset events; `shared.airflow.AirflowApi` is one."""

    def post_asset_event(self, asset_uri: str, extra: Mapping[str, Any]) -> None: ...


def publish_newest(
    sessions: sessionmaker[Session], training: AssetEvents, lineage: Mapping[str, str]
) -> str | None:
    """Post the newest version's event unless it was acknowledged before; its digest, or None.

    A crash between the answer and the ledger posts it again, with the same key: consumers go by state.
    """
    with sessions() as session:
        version = find_newest_version(session)
        if version is None or version.published_at is not None:
            return None
        extra = {
            IDEMPOTENCY_KEY: f"knowledge_base/{version.id}/{version.digest}",
            "version": version.digest,
            "documents": version.documents,
            "chunks": version.chunks,
            "ingest_run": version.ingest_run,
            "openlineage": dict(lineage),
        }
    training.post_asset_event(KNOWLEDGE_BASE_ASSET, extra)
    with sessions.begin() as session:
        session.merge(version).published_at = utc_now()
    log.info(
        "knowledge base %s published: %d documents, %d chunks",
        version.digest[:12],
        version.documents,
        version.chunks,
    )
    return version.digest
