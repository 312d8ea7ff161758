"""Sentence embeddings on torch: mean pooling over the last hidden state, normalised."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModel, AutoTokenizer

from deployments.llm.engines.digests import EMBEDDING_SETTING, check_digest
from deployments.llm.engines.loading import LoadingEngine
from deployments.llm.engines.ports import (
    EmbeddingEngine,
    EmbeddingModel,
    Embeddings,
    Tokens,
    UnknownModelError,
)
from deployments.llm.engines.token_numbers import check_tokens
from deployments.llm.engines.torch.device import choose_device
from deployments.llm.engines.weights import find_weight_file, locate_embedding_weights
from deployments.llm.settings import LlmSettings
from shared import contracts

_MAX_TOKENS: Final = 512
_BATCH: Final = 32


class TorchEmbeddingEngine(LoadingEngine, EmbeddingEngine):
    """One embedding model in memory; calls take turns."""

    def __init__(self, model_id: str, weights: str, sha256: str = "") -> None:
        super().__init__()
        self._id, self._weights, self._sha256 = model_id, weights, sha256
        self._models: dict[str, EmbeddingModel] = {model_id: EmbeddingModel(0, _MAX_TOKENS)}
        self._lock = threading.Lock()
        self._model: Any = None

    def load_models(self) -> None:
        if self._sha256:  # of the file of weights; a hub id has to be fetched by hand to have one
            check_digest(find_weight_file(Path(self._weights)), self._sha256, EMBEDDING_SETTING)
        self._tokenizer = AutoTokenizer.from_pretrained(self._weights)
        model = AutoModel.from_pretrained(self._weights, dtype=torch.float32).to(choose_device()).eval()
        self._models = {self._id: EmbeddingModel(model.config.hidden_size, _MAX_TOKENS)}
        self._model = model

    @property
    def models(self) -> Mapping[str, EmbeddingModel]:
        return self._models

    @torch.inference_mode()
    def embed(self, model: str, inputs: Sequence[str | Tokens]) -> Embeddings:
        if model != self._id:
            raise UnknownModelError(model)
        self.check_ready()
        encoded = [self._encode(one) for one in inputs]
        # In order of length, to pad little.
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        vectors: list[list[float]] = [[] for _ in encoded]
        with self._lock:
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                batch = self._tokenizer.pad(
                    {"input_ids": [encoded[index] for index in chosen]}, return_tensors="pt"
                )
                batch = batch.to(self._model.device)
                hidden = self._model(**batch).last_hidden_state
                mask = batch["attention_mask"].unsqueeze(-1)
                pooled = (hidden * mask).sum(1) / mask.sum(1)
                for index, vector in zip(chosen, torch.nn.functional.normalize(pooled).tolist(), strict=True):
                    vectors[index] = vector
        return Embeddings(vectors, sum(map(len, encoded)))

    def _encode(self, given: str | Tokens) -> list[int]:
        if isinstance(given, str):
            return list(self._tokenizer(given, truncation=True, max_length=_MAX_TOKENS)["input_ids"])
        check_tokens(given, len(self._tokenizer))
        return list(given)[:_MAX_TOKENS]


def build_engine(settings: LlmSettings) -> TorchEmbeddingEngine:
    """The engine that the settings describe."""
    weights = locate_embedding_weights(settings.llm_embedding_model)
    return TorchEmbeddingEngine(contracts.LOCAL_EMBEDDING_MODEL, weights, settings.llm_embedding_model_sha256)
