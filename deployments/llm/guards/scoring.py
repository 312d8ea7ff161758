"""The guard before the scoring engine."""

from deployments.llm.engines.ports import ScoringEngine, TokenLogprob, Tokens, Usage
from deployments.llm.guards.guard import Guard, note, take_up
from deployments.llm.metrics import Metrics
from deployments.llm.work import Floor


class GuardedScoring(Guard, ScoringEngine):
    """A scoring engine that so many requests at most may ask at once."""

    def __init__(self, engine: ScoringEngine, floor: Floor, metrics: Metrics) -> None:
        super().__init__(engine)
        self._engine, self._floor, self._metrics = engine, floor, metrics

    def score(self, model: str, tokens: Tokens, top: int = 0) -> list[TokenLogprob]:
        with take_up(self._floor) as (work, reason):
            reason.check()
            scored = self._engine.score(model, tokens, top)
            note(self._metrics, work, model, Usage(len(tokens)))
            return scored
