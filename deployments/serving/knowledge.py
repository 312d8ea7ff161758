"""The state of the knowledge base as the ledger has it, and the wake-up that asks ingest to look again.

It knows neither Weaviate nor what a source is made of.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from shared.contracts import IDEMPOTENCY_KEY, source_asset
from shared.ledger.models import DocumentVersion, KnowledgeProblem, KnowledgeVersion

ASSET_WAIT = 10.0  # seconds; a person is waiting


class AssetEvents(Protocol):
    """Whatever can post an asset event to an Airflow."""

    def post_asset_event(self, asset_uri: str, extra: Mapping[str, Any], wait: float = ...) -> None:
        """Wakes every Dag scheduled on the asset; waits at most `wait` seconds for the asset to be known."""


def describe_knowledge(session: Session) -> dict[str, Any]:
    """Counts of current documents and chunks, by source too, the newest version, and the files that can't be used."""
    rows = session.execute(
        select(
            DocumentVersion.source,
            func.count(),
            func.coalesce(func.sum(DocumentVersion.chunks), 0),
            func.max(DocumentVersion.ingested_at),
        )
        .where(DocumentVersion.superseded_at.is_(None))
        .group_by(DocumentVersion.source)
        .order_by(DocumentVersion.source)
    ).all()
    problems = session.execute(
        select(KnowledgeProblem.uri, KnowledgeProblem.message).order_by(KnowledgeProblem.uri)
    )
    version = session.scalar(select(KnowledgeVersion).order_by(KnowledgeVersion.id.desc()).limit(1))
    return {
        "documents": sum(row[1] for row in rows),
        "chunks": sum(int(row[2]) for row in rows),
        "version": version and version.id,
        "digest": version and version.digest,
        "last_ingest": version
        and {"run": version.ingest_run, "at": version.created_at.isoformat(timespec="seconds")},
        "sources": [
            {
                "source": name,
                "documents": count,
                "chunks": int(chunks),
                "changed": changed.isoformat(timespec="seconds"),
            }
            for name, count, chunks, changed in rows
        ],
        "problems": [{"uri": uri, "message": message} for uri, message in problems],
    }


def sync_knowledge(api: AssetEvents, sources: list[str], asked_by: str) -> list[str]:
    """Tell ingest that these sources may have changed; the asset URIs that were posted."""
    posted = []
    for source in sources:
        asset = source_asset(source)
        # Each press of the button is news of its own; the second makes a doubled request the same news.
        stamp = datetime.now(UTC).isoformat(timespec="seconds")
        key = hashlib.sha256(f"{asset}\n{stamp}".encode()).hexdigest()[:32]
        api.post_asset_event(asset, {IDEMPOTENCY_KEY: key, "asked_by": asked_by}, ASSET_WAIT)
        posted.append(asset)
    return posted
