"""Walks from a post to the chunks, document versions, model, training set, examples and runs behind it.

It knows no page; the reverse walk belongs to another module.
"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from deployments.serving.posts import get_post
from shared.contracts import BASE_ALIAS
from shared.ledger.models import DocumentVersion, FineTuningJob, Post, PostSource, TrainingSet
from shared.registry.port import ModelRegistry, ModelVersion, RegistryError
from shared.times import write_time


def audit_post(session: Session, registry: ModelRegistry, post_id: str) -> dict[str, Any]:
    """The whole chain of a post as JSON. Raises NotFound; a registry that is down is named in `notes`."""
    post = get_post(session, post_id)
    notes: list[str] = []
    return {
        "post_id": post.id,
        "topic": post.topic,
        "created": write_time(post.created_at),
        "author": post.author,
        "prompt_version": post.prompt_version,
        "model": _audit_model(session, registry, post, notes),
        "sources": [_audit_source(session, post, source, notes) for source in post.sources],
        "notes": notes,
    }


def _audit_model(session: Session, registry: ModelRegistry, post: Post, notes: list[str]) -> dict[str, Any]:
    chain: dict[str, Any] = {
        "name": post.model_name,
        "version": post.model_version,
        "alias": post.model_alias,
        "model_id": post.model_id,
        "training_set": None,
        "job_id": None,
        "run_id": None,
        "examples": [],
    }
    if post.model_version is None:
        notes.append(f"Written with the {BASE_ALIAS} model: no training of ours stands behind it.")
        return chain
    version = _find_version(registry, post.model_version, notes)
    # The ledger answers where the registry can't (down, or the version was deleted).
    job = session.scalar(select(FineTuningJob).where(FineTuningJob.model_id == post.model_id).limit(1))
    chain["training_set"] = (version and version.training_set) or (job and job.training_set)
    chain["job_id"] = (version and version.job_id) or (job and job.job_id)
    chain["run_id"] = (version and version.run_id) or (job and job.mlflow_run_id)
    training_set = session.get(TrainingSet, chain["training_set"]) if chain["training_set"] else None
    if training_set is None:
        notes.append("The ledger holds no training set for this model version.")
    else:
        chain["training_set_run"] = training_set.run
        chain["examples"] = [
            {"path": example.get("path"), "split": example.get("split")} for example in training_set.examples
        ]
    return chain


def _find_version(registry: ModelRegistry, number: str, notes: list[str]) -> ModelVersion | None:
    try:
        version = registry.get_version(number)
    except RegistryError as error:
        notes.append(
            f"The model registry could not be asked ({error}); the model's chain is from the ledger."
        )
        return None
    if version is None:
        notes.append(
            f"The model registry no longer holds version {number}; the model's chain is from the ledger."
        )
    return version


def _audit_source(session: Session, post: Post, source: PostSource, notes: list[str]) -> dict[str, Any]:
    versions = session.scalars(
        select(DocumentVersion)
        .where(DocumentVersion.uri == source.uri, DocumentVersion.content_hash == source.content_hash)
        .order_by(DocumentVersion.ingested_at.desc())
    ).all()
    # The same content may have come, gone and come back: the one that stood when the post was written counts.
    version = next((item for item in versions if item.ingested_at <= post.created_at), None) or next(
        iter(versions), None
    )
    if version is None:
        notes.append(f"The ledger holds no ingested version of {source.uri} with this content.")
    return {
        "uri": source.uri,
        "title": source.title,
        "content_hash": source.content_hash,
        "chunk_id": source.chunk_id,
        "rank": source.rank,
        "score": source.score,
        "ingest_run": version and version.ingest_run,
        "ingested_at": version and write_time(version.ingested_at),
        "current": any(item.superseded_at is None for item in versions),
    }
