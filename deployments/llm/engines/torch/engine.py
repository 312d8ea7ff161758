"""The engine on torch and transformers, on a CPU or a GPU: it answers and it scores.

It knows no HTTP and no fine-tuning job; adapters come to it as directories.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from deployments.llm.engines.answer_text import AnswerText
from deployments.llm.engines.limits import limit_answer
from deployments.llm.engines.loading import LoadingEngine
from deployments.llm.engines.ports import (
    ChatEngine,
    ContextTooLongError,
    GenerationRequest,
    Messages,
    ScoringEngine,
    TokenLogprob,
    Tokens,
)
from deployments.llm.engines.token_numbers import check_request
from deployments.llm.engines.torch.batch import TorchGeneration
from deployments.llm.engines.torch.chat_tokens import count_tokens
from deployments.llm.engines.torch.decoder import Decoder
from deployments.llm.engines.torch.models import Models
from deployments.llm.engines.torch.schema import SchemaGuide
from deployments.llm.engines.torch.vocabulary import Vocabulary, score_tokens
from deployments.llm.engines.torch.weights import locate_chat_weights
from deployments.llm.settings import LlmSettings
from shared import contracts

log = logging.getLogger(__name__)


class TorchChatEngine(LoadingEngine, ChatEngine, ScoringEngine):
    """Continuous batching over a base model and fine-tuned ones."""

    def __init__(self, settings: LlmSettings) -> None:
        super().__init__()
        self.chat_model = contracts.LOCAL_CHAT_MODEL
        self._settings = settings
        self._models = Models(self.chat_model, settings.llm_max_models)
        self._limit = settings.llm_max_model_len
        self._vocabulary: Vocabulary | None = None
        self._decoder: Decoder | None = None
        self._scoring = threading.Lock()  # a score takes the memory of its prompt's logits

    # --- loading ---
    def load_models(self) -> None:
        settings = self._settings
        started = time.monotonic()
        # Decoding is bound by memory: more threads than half the cores win little and are slow beside others.
        torch.set_num_threads(settings.llm_threads or max(1, (os.cpu_count() or 2) // 2))
        vocabulary = self._models.load(locate_chat_weights(settings))
        base = self._models.base
        self._limit = min(self._limit, base.config.max_position_embeddings)
        self._decoder = Decoder(
            self._models.get,
            vocabulary,
            max_rows=settings.llm_max_batch,
            max_tokens=settings.llm_max_batch_tokens,
            max_queue=settings.llm_max_queue,
        )
        self._vocabulary = vocabulary
        seconds = time.monotonic() - started
        log.info("The chat model was loaded in %.1f s on %s as %s", seconds, base.device, base.dtype)

    def _read(self) -> Vocabulary:
        """The vocabulary of a model that is loaded."""
        self.check_ready()
        assert self._vocabulary is not None
        return self._vocabulary

    def close(self) -> None:
        super().close()
        if self._decoder is not None:
            self._decoder.close()

    # --- fine-tuned models ---
    def register_adapter(self, model_id: str, directory: Path, *, soon: bool = True) -> None:
        self._models.register(model_id, directory)

    def forget_adapter(self, model_id: str) -> None:
        self._models.forget(model_id)

    @property
    def adapters(self) -> Mapping[str, Path]:
        return self._models.adapters

    # --- tokens ---
    @property
    def max_model_len(self) -> int:
        return self._limit

    def count_tokens(self, messages: Messages) -> int:
        return count_tokens(self._read().tokenizer, messages)

    def tokenize(self, text: str) -> list[int]:
        return self._read().encode(text)

    def detokenize(self, tokens: Tokens) -> str:
        return self._read().decode(tokens)

    # --- scores ---
    def score(self, model: str, tokens: Tokens, top: int = 0) -> list[TokenLogprob]:
        vocabulary = self._read()
        self._models.check(model)
        if len(tokens) > self._limit:
            raise ContextTooLongError(self._limit, len(tokens))
        with self._scoring:
            return score_tokens(self._models.get(model), vocabulary, tokens, top)

    # --- answers ---
    def generate(self, request: GenerationRequest) -> TorchGeneration:
        vocabulary = self._read()
        self._models.check(request.model)
        check_request(request, vocabulary.size)
        prompt = vocabulary.encode(request.prompt)
        limit = limit_answer(
            self._limit, len(prompt), request.max_tokens, self._settings.llm_default_max_tokens
        )
        guide = None if request.json_schema is None else SchemaGuide(vocabulary, request.json_schema)
        generator = torch.Generator()
        generator.manual_seed(request.seed) if request.seed is not None else generator.seed()
        answer = AnswerText(request.stop)
        generation = TorchGeneration(request, prompt, limit, generator, answer, guide)
        assert self._decoder is not None
        self._decoder.add(generation)
        return generation


def build_engine(settings: LlmSettings) -> TorchChatEngine:
    """The engine that the settings describe."""
    return TorchChatEngine(settings)
