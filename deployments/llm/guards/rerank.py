"""The guard before the rerank engine."""

from collections.abc import Sequence

from deployments.llm.engines.ports import Ranking, RerankEngine, Usage
from deployments.llm.guards.guard import Guard, name_key, note, split, take_up
from deployments.llm.metrics import Metrics
from deployments.llm.work import Floor


class GuardedRerank(Guard, RerankEngine):
    """A rerank engine that so many requests at most may ask at once, and that is given a few documents at a time."""

    def __init__(self, engine: RerankEngine, floor: Floor, metrics: Metrics) -> None:
        super().__init__(engine)
        self._engine, self._floor, self._metrics = engine, floor, metrics
        self.rerank_model = engine.rerank_model

    def rerank(self, query: str, documents: Sequence[str], max_document_tokens: int | None = None) -> Ranking:
        logits: list[float] = []
        tokens = 0
        with take_up(self._floor) as (work, reason):
            for some in split(documents):
                reason.check()
                ranking = self._engine.rerank(query, some, max_document_tokens)
                logits += ranking.logits
                tokens += ranking.prompt_tokens
                self._metrics.reranked_pairs.labels(self.rerank_model, name_key(work)).inc(len(some))
                note(self._metrics, work, self.rerank_model, Usage(ranking.prompt_tokens))
        return Ranking(logits, tokens)
