"""The guard before the embedding engine."""

from collections.abc import Mapping, Sequence

from deployments.llm.engines.ports import EmbeddingEngine, EmbeddingModel, Embeddings, Tokens, Usage
from deployments.llm.guards.guard import Guard, name_key, note, split, take_up
from deployments.llm.metrics import Metrics
from deployments.llm.work import Floor


class GuardedEmbedding(Guard, EmbeddingEngine):
    """An embedding engine that so many requests at most may ask at once, and that is given a few texts at a time."""

    def __init__(self, engine: EmbeddingEngine, floor: Floor, metrics: Metrics) -> None:
        super().__init__(engine)
        self._engine, self._floor, self._metrics = engine, floor, metrics

    @property
    def models(self) -> Mapping[str, EmbeddingModel]:
        return self._engine.models

    def embed(self, model: str, inputs: Sequence[str | Tokens]) -> Embeddings:
        # Those of about one length together: a batch is as slow as its longest text.
        order = sorted(range(len(inputs)), key=lambda place: len(inputs[place]), reverse=True)
        vectors: list[Sequence[float]] = [[]] * len(inputs)
        tokens = 0
        with take_up(self._floor) as (work, reason):
            for places in split(order):
                reason.check()
                some = self._engine.embed(model, [inputs[place] for place in places])
                for place, vector in zip(places, some.vectors, strict=True):
                    vectors[place] = vector
                tokens += some.prompt_tokens
                self._metrics.embedded_texts.labels(model, name_key(work)).inc(len(places))
                note(self._metrics, work, model, Usage(some.prompt_tokens))
        return Embeddings(vectors, tokens)
