"""The engines that serve, one for each role; together they load, are ready and close."""

import threading
from dataclasses import dataclass

from deployments.llm.engines.ports import ChatEngine, EmbeddingEngine, Engine, RerankEngine, ScoringEngine


@dataclass(frozen=True)
class Engines:
    """One engine per role."""

    chat: ChatEngine
    scoring: ScoringEngine
    embedding: EmbeddingEngine
    rerank: RerankEngine

    @property
    def _all(self) -> tuple[Engine, ...]:
        # One engine may have two roles.
        return tuple(dict.fromkeys((self.chat, self.scoring, self.embedding, self.rerank)))

    def load(self) -> None:
        """Loads all side by side; blocks."""
        threads = [threading.Thread(target=engine.load, daemon=True) for engine in self._all]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def ready(self) -> bool:
        """Whether every engine can be asked."""
        return all(engine.ready for engine in self._all)

    @property
    def failure(self) -> str | None:
        """What went wrong first, by the order of the roles."""
        return next((engine.failure for engine in self._all if engine.failure), None)

    def close(self) -> None:
        """Closes all."""
        for engine in self._all:
            engine.close()
