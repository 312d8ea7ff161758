"""The names that deployments agree on: assets, collections, models, Dags, lineage datasets.

It knows no URL, credential or value of one machine; those are in `shared.settings`.
"""

import re
from typing import Final, NamedTuple
from uuid import UUID, uuid5

# --- Airflow assets -------------------------------------------------------------------------------------------------
KNOWLEDGE_CHANGED_ASSET: Final = "ghostwriter://knowledge_sources"
"""Knowledge may have changed; `extra["source"]` may say where. Lives in the ingest deployment."""
KNOWLEDGE_BASE_ASSET: Final = "ghostwriter://knowledge_base"
"""The knowledge base has a new version. Produced in ingest, posted over REST to training."""
EXAMPLES_ASSET: Final = "ghostwriter://examples"
"""Example files changed (by hand, script, curl or an approved post). Lives in training."""
TRAINING_SET_ASSET: Final = "ghostwriter://training_set"
CHALLENGER_ASSET: Final = "ghostwriter://challenger"
CHAMPION_ASSET: Final = "ghostwriter://champion"


SOURCE_NAME_RULE: Final = "a source's name is made of A-Z, a-z, 0-9, _ and -"


def is_source_name(name: str) -> bool:
    """Whether a source may be called so: its name becomes part of URIs."""
    return bool(re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name))


ACCEPT_REMOVALS: Final = "accept_removals"
"""Key in the configuration of an ingest run: digests of the removals that the person who started it agreed to."""
IDEMPOTENCY_KEY: Final = "idempotency_key"
"""Key in an asset event's `extra`; the same key means the same news."""

# --- Dags -----------------------------------------------------------------------------------------------------------
TRAINING_BLOCKERS: Final = frozenset(
    {"bad_format", "no_training_examples", "no_validation_examples", "no_holdout_examples", "over_budget"}
)
"""Tasks in which `fine_tune` ends well although nothing is trained: the examples or the budget are to be mended."""
INGEST_DAG: Final = "ingest_knowledge_base"
CLEAR_DAG: Final = "clear_knowledge_base"
APPROVE_REMOVALS_DAG: Final = "approve_removals"
PREPARE_DAG: Final = "prepare_examples"
FINE_TUNE_DAG: Final = "fine_tune"
PROMOTE_DAG: Final = "promote_champion"
START_TRAINING_DAG: Final = "start_training"
TRY_AGAIN: Final = "`ghostwriter train start` or the Dag start_training tries again"
"""What a person can do about a fine-tuning job that came to nothing; nothing else buys another."""
INGEST_DAGS: Final = (INGEST_DAG, CLEAR_DAG, APPROVE_REMOVALS_DAG)
TRAINING_DAGS: Final = (PREPARE_DAG, FINE_TUNE_DAG, PROMOTE_DAG, START_TRAINING_DAG)
MANUAL_DAGS: Final = frozenset({CLEAR_DAG})
"""Dags that are paused until a person unpauses them: a paused Dag takes a run and does not start it."""

CLEAR_BEFORE: Final = "before"
"""Key in the conf of a CLEAR_DAG run: ISO 8601 with a zone; after it the run must not begin to clear."""
CLEAR_VERSION: Final = "version"
"""Key in the same conf: the knowledge version that the person saw; at another one the run must not clear."""

# --- Weaviate -------------------------------------------------------------------------------------------------------
CHUNK_ALIAS: Final = "Chunk"
"""Everyone reads and writes through this alias; the collection behind it is `Chunk_v1`, later `Chunk_v2`, …"""
CHUNK_COLLECTION: Final = "Chunk_v1"
"""The first one; its successors are rows of `knowledge_collections`."""

# --- MLflow ---------------------------------------------------------------------------------------------------------
REGISTERED_MODEL: Final = "ghostwriter"
CHAMPION_ALIAS: Final = "champion"
CHALLENGER_ALIAS: Final = "challenger"
BASE_ALIAS: Final = "base"
"""Not an MLflow alias: what serving calls the untuned model where there is no champion."""
TRAINING_EXPERIMENT: Final = "ghostwriter-training"
RETRIEVAL_EXPERIMENT: Final = "ghostwriter-retrieval"
"""A run for each version of the knowledge: how well it is found."""
KNOWLEDGE_VERSION_TAG: Final = "ghostwriter.knowledge_version"
MODEL_ID_TAG: Final = "ghostwriter.model_id"
"""Model-version tag: the id under which the LLM server serves this version."""
TRAINING_SET_TAG: Final = "ghostwriter.training_set"
JOB_ID_TAG: Final = "ghostwriter.job_id"

# --- The LLM server's own model ids (settings may name another provider's) -------------------------------------------
LOCAL_CHAT_MODEL: Final = "smollm2-135m-instruct"
LOCAL_EMBEDDING_MODEL: Final = "all-minilm-l6-v2"
LOCAL_RERANK_MODEL: Final = "ms-marco-minilm-l-12-v2"
LOCAL_IMAGE_MODEL: Final = "typographic-card"


# --- OpenLineage ----------------------------------------------------------------------------------------------------
class LineageDataset(NamedTuple):
    """An OpenLineage dataset: one per collection of things, so that the graph stays readable."""

    namespace: str
    name: str


DOCUMENTS: Final = LineageDataset("file", "/documents")
EXAMPLES: Final = LineageDataset("file", "/examples")
TRAINING_SET: Final = LineageDataset("file", "/training_set")
CHUNKS: Final = LineageDataset("weaviate://ghostwriter", CHUNK_ALIAS)
ADAPTERS: Final = LineageDataset("llm://ghostwriter", "adapters")
MODEL: Final = LineageDataset("mlflow://ghostwriter", REGISTERED_MODEL)
POSTS: Final = LineageDataset("ghostwriter://serving", "posts")
INGEST_NAMESPACE: Final = "ghostwriter-ingest"
TRAINING_NAMESPACE: Final = "ghostwriter-training"
LLM_NAMESPACE: Final = "ghostwriter-llm"
SERVING_NAMESPACE: Final = "ghostwriter-serving"
LINEAGE_PRODUCER: Final = "https://github.com/ghostwriter/ghostwriter"

# --- Knowledge ------------------------------------------------------------------------------------------------------
_CHUNK_NAMESPACE: Final = UUID("6f8a8f3e-5b0e-5c58-9a68-6a2b1d0c7e11")


def document_uri(source: str, path: str) -> str:
    """URI of a document: `knowledge://guides/assets.md`; `path` is relative to the source's folder, in POSIX form."""
    return f"knowledge://{source}/{path}"


def document_source(uri: str) -> str:
    """The source that a document's URI names."""
    return uri.partition("://")[2].partition("/")[0]


def chunk_id(uri: str, content_hash: str, position: int, recipe: str = "") -> str:
    """Deterministic chunk id (UUID string): the document's URI, content hash (sha256 hex), the position, the recipe.

    What was written before there were recipes has none, and keeps its ids.
    """
    made_by = f"\n{recipe}" if recipe else ""
    return str(uuid5(_CHUNK_NAMESPACE, f"{uri}\n{content_hash}\n{position}{made_by}"))
