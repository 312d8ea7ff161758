"""The models that this server can serve, and why it can't serve a tuned one that it keeps.

It knows no weights: a tuned model is served on the base whose name it was tuned on.
"""

import logging
import time
from collections.abc import Mapping

from deployments.llm.engines.roles import Engines
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.routes.models import Model
from shared import contracts

log = logging.getLogger(__name__)


class ServedModels:
    """Over engines and jobs; `base` is the name of the base model's weights, empty where it isn't known."""

    def __init__(self, engines: Engines, jobs: JobStore, base: str) -> None:
        self._engines, self._jobs, self._base = engines, jobs, base
        self._started = int(time.time())

    def register(self) -> None:
        """Makes the tuned models of earlier times known to the chat engine."""
        for model_id, tuned in self._jobs.models().items():
            if obstacle := self._find_obstacle(model_id, tuned.base):
                log.warning("%s", obstacle)
            else:
                self._engines.chat.register_adapter(model_id, tuned.directory, soon=tuned.final)

    def list(self) -> Mapping[str, Model]:
        """All that can be served, by id."""
        chat, embedding, rerank = self._engines.chat, self._engines.embedding, self._engines.rerank
        others = (*embedding.models, rerank.rerank_model, contracts.LOCAL_IMAGE_MODEL)
        return {
            chat.chat_model: Model(self._started, chat.max_model_len),
            **dict.fromkeys(others, Model(self._started)),
            **{
                model_id: Model(tuned.job.created_at, chat.max_model_len)
                for model_id, tuned in self._jobs.models().items()
                if not self._find_obstacle(model_id, tuned.base)
            },
        }

    def explain_absence(self, model_id: str) -> str | None:
        """Why a tuned model that is kept can't be served; None where there is no such model."""
        tuned = self._jobs.models().get(model_id)
        return self._find_obstacle(model_id, tuned.base) if tuned else None

    def delete(self, model_id: str) -> bool:
        """Removes a tuned model, one that can't be served too; False where there is none."""
        deleted = self._jobs.delete_model(model_id)
        if deleted:
            self._engines.chat.forget_adapter(model_id)
        return deleted

    def _find_obstacle(self, model_id: str, needed: str) -> str | None:
        if needed in ("", self._base) or not self._base:
            return None
        return (
            f"The model '{model_id}' was tuned on the base model {needed}, and this server runs {self._base}. It is "
            "kept on disk: with GHOSTWRITER_LLM_BASE_MODEL as it was then, it is served again."
        )
