"""All engines with their guards. It knows no engine: each guard is an engine over another one."""

from deployments.llm.engines.roles import Engines
from deployments.llm.guards.chat import GuardedChat
from deployments.llm.guards.embedding import GuardedEmbedding
from deployments.llm.guards.rerank import GuardedRerank
from deployments.llm.guards.scoring import GuardedScoring
from deployments.llm.metrics import Metrics
from deployments.llm.work import Floors


def guard_engines(engines: Engines, floors: Floors, metrics: Metrics) -> Engines:
    """The same engines, each with a guard before it."""
    return Engines(
        chat=GuardedChat(engines.chat, floors.chat, metrics),
        scoring=GuardedScoring(engines.scoring, floors.scoring, metrics),
        embedding=GuardedEmbedding(engines.embedding, floors.embedding, metrics),
        rerank=GuardedRerank(engines.rerank, floors.rerank, metrics),
    )
