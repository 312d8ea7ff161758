"""Sentence embeddings: mean pooling over the last hidden state, normalised.

It knows no HTTP and no chat model.
"""

import threading
from collections.abc import Sequence
from typing import Final

import torch
from transformers import AutoModel, AutoTokenizer

from deployments.llm.engine.device import choose_device
from deployments.llm.engine.port import Embeddings

_MAX_TOKENS: Final = 512
_BATCH: Final = 32


class Embedder:
    """One embedding model in memory; calls take turns."""

    def __init__(self, weights: str) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(weights)
        self._model = AutoModel.from_pretrained(weights, dtype=torch.float32).to(choose_device()).eval()
        self._lock = threading.Lock()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Embeddings:
        """One vector per text, in the order given; computed in order of length, to pad little."""
        encoded = [
            self._tokenizer(text, truncation=True, max_length=_MAX_TOKENS)["input_ids"] for text in texts
        ]
        order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
        vectors: list[list[float]] = [[] for _ in texts]
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
