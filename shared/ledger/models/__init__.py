"""The ledger's tables: what the team must be able to prove or resume after any crash.

They know no query; each room keeps its own queries beside its rules.
"""

from shared.ledger.models.base import Base, BigId, Json, UtcDateTime, utc_now
from shared.ledger.models.knowledge import (
    CollectionDocument,
    DocumentReference,
    DocumentText,
    DocumentVersion,
    KnowledgeCollection,
    KnowledgeProblem,
    KnowledgeSource,
    KnowledgeSync,
    KnowledgeTurn,
    KnowledgeVersion,
    PendingWrite,
    TextVector,
)
from shared.ledger.models.lineage import LineageEvent, LineageOffset, LineageQuarantine
from shared.ledger.models.posts import Feedback, Post, PostSource
from shared.ledger.models.training import FineTuningJob, PinnedContext, PromotionVerdict, TrainingSet

__all__ = [
    "Base",
    "BigId",
    "CollectionDocument",
    "DocumentReference",
    "DocumentText",
    "DocumentVersion",
    "Feedback",
    "FineTuningJob",
    "Json",
    "KnowledgeCollection",
    "KnowledgeProblem",
    "KnowledgeSource",
    "KnowledgeSync",
    "KnowledgeTurn",
    "KnowledgeVersion",
    "LineageEvent",
    "LineageOffset",
    "LineageQuarantine",
    "PendingWrite",
    "PinnedContext",
    "Post",
    "PostSource",
    "PromotionVerdict",
    "TextVector",
    "TrainingSet",
    "UtcDateTime",
    "utc_now",
]
