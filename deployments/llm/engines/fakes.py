"""Engines without a model: answers repeat the last message, vectors come from a hash, scores from shared words.

Tests of the HTTP layer run on them.
"""

import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deployments.llm.engines.limits import limit_answer
from deployments.llm.engines.ports import (
    ChatEngine,
    EmbeddingEngine,
    EmbeddingModel,
    Embeddings,
    FinishReason,
    Generation,
    GenerationRequest,
    Messages,
    NotReadyError,
    Piece,
    QueueFullError,
    Ranking,
    RerankEngine,
    ScoringEngine,
    TokenLogprob,
    Tokens,
    UnknownModelError,
    Usage,
)
from deployments.llm.engines.token_numbers import check_request, check_tokens
from shared import contracts

_LOGPROB = -0.5


class FakeGeneration(Generation):
    """Yields one word at a time; `gate`, when given, is waited for before each word."""

    def __init__(
        self,
        words: list[str],
        prompt_tokens: int,
        limit: int,
        gate: threading.Semaphore | None,
        logprobs: list[TokenLogprob] | None = None,
    ) -> None:
        self._words, self._prompt_tokens, self._limit, self._gate = words, prompt_tokens, limit, gate
        self._logprobs = logprobs
        self.cancelled = threading.Event()

    @property
    def prompt_tokens(self) -> int:
        return self._prompt_tokens

    def __iter__(self) -> Iterator[Piece]:
        finish: FinishReason = "stop" if len(self._words) <= self._limit else "length"
        words = self._words[: self._limit]
        for index, word in enumerate(words):
            while self._gate and not self._gate.acquire(timeout=0.05):
                if self.cancelled.is_set():
                    return
            if self.cancelled.is_set():
                return
            yield Piece(word, logprobs=(self._logprobs[index],) if self._logprobs else ())
        yield Piece("", finish, Usage(self._prompt_tokens, len(words)))

    def cancel(self) -> None:
        self.cancelled.set()


class _Loading:
    """Ready once loaded; it stays unloaded with `ready=False` or a `failure`."""

    def __init__(self, ready: bool, failure: str | None) -> None:
        self._loads, self._ready, self._failure = ready and not failure, False, failure

    def load(self) -> None:
        self._ready = self._loads

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def failure(self) -> str | None:
        return self._failure

    def close(self) -> None:
        self._ready = False

    def check_ready(self) -> None:
        if not self._ready:
            raise NotReadyError("The models are loading.")


class FakeChatEngine(_Loading, ChatEngine):
    """Repeats the last message, or says what `reply` makes of the request; a word is a token, numbered as it comes.

    `gate` holds generations back. A request with a JSON schema is answered with the least that the schema allows.
    """

    def __init__(
        self,
        *,
        ready: bool = True,
        failure: str | None = None,
        context: int = 200,
        default_max_tokens: int = 1024,
        max_queue: int = 100,
        gate: threading.Semaphore | None = None,
        reply: Callable[[GenerationRequest], str] | None = None,
    ) -> None:
        super().__init__(ready, failure)
        self.chat_model = contracts.LOCAL_CHAT_MODEL
        self._default_max_tokens, self._reply = default_max_tokens, reply
        self._context, self._max_queue, self._gate = context, max_queue, gate
        self._vocabulary: list[str] = []
        self._adapters: dict[str, Path] = {}
        self.wanted_soon: dict[str, bool] = {}
        self.requests: list[GenerationRequest] = []
        self.generations: list[FakeGeneration] = []

    @property
    def max_model_len(self) -> int:
        return self._context

    def tokenize(self, text: str) -> list[int]:
        self.check_ready()
        return [self._number(word) for word in text.split()]

    def _number(self, word: str) -> int:
        if word not in self._vocabulary:
            self._vocabulary.append(word)
        return self._vocabulary.index(word)

    def detokenize(self, tokens: Tokens) -> str:
        self.check_ready()
        check_tokens(tokens, len(self._vocabulary))
        return " ".join(self._vocabulary[token] for token in tokens)

    def count_tokens(self, messages: Messages) -> int:
        return sum(len(self.tokenize(message["content"])) for message in messages)

    def register_adapter(self, model_id: str, directory: Path, *, soon: bool = True) -> None:
        self._adapters[model_id] = directory
        self.wanted_soon[model_id] = soon

    def forget_adapter(self, model_id: str) -> None:
        self._adapters.pop(model_id, None)

    @property
    def adapters(self) -> Mapping[str, Path]:
        return self._adapters

    def generate(self, request: GenerationRequest) -> FakeGeneration:
        self.check_ready()
        self.requests.append(request)
        if request.model != self.chat_model and request.model not in self.adapters:
            raise UnknownModelError(request.model)
        check_request(request, 100_000)
        text = self._read(request)
        prompt_tokens = self._count(request)
        limit = limit_answer(self._context, prompt_tokens, request.max_tokens, self._default_max_tokens)
        if len(self.generations) >= self._max_queue:
            raise QueueFullError("Too many generations wait.")
        if request.json_schema is not None:
            text = json.dumps(_least(request.json_schema))
        if self._reply:
            text = self._reply(request)
        for stop in request.stop:
            text = text.split(stop)[0]
        words = [word if index == 0 else f" {word}" for index, word in enumerate(text.split())]
        logprobs = (
            None if request.logprobs is None else [self._tell(word, request.logprobs) for word in words]
        )
        generation = FakeGeneration(words, prompt_tokens, limit, self._gate, logprobs)
        self.generations.append(generation)
        return generation

    def _read(self, request: GenerationRequest) -> str:
        if isinstance(request.prompt, str):
            return request.prompt
        if request.prompt and isinstance(request.prompt[0], int):
            return self.detokenize(request.prompt)  # type: ignore[arg-type]
        return request.prompt[-1]["content"] if request.prompt else ""  # type: ignore[index]

    def _count(self, request: GenerationRequest) -> int:
        if isinstance(request.prompt, str):
            return len(request.prompt.split())
        if request.prompt and isinstance(request.prompt[0], int):
            return len(request.prompt)
        return self.count_tokens(request.prompt)  # type: ignore[arg-type]

    def _tell(self, word: str, top: int) -> TokenLogprob:
        number = self._number(word.strip())
        others = tuple(TokenLogprob(number + place, word.encode(), _LOGPROB - place) for place in range(top))
        return TokenLogprob(number, word.encode(), _LOGPROB, others)

    def close(self) -> None:
        super().close()
        for generation in self.generations:
            generation.cancel()


class FakeScoringEngine(_Loading, ScoringEngine):
    """Every token is as likely as every other."""

    def __init__(self, chat: FakeChatEngine) -> None:
        super().__init__(True, None)
        self._chat = chat

    def score(self, model: str, tokens: Tokens, top: int = 0) -> list[TokenLogprob]:
        self.check_ready()
        if model != self._chat.chat_model and model not in self._chat.adapters:
            raise UnknownModelError(model)
        words = [self._chat.detokenize([token]).encode() for token in tokens]
        others = [TokenLogprob(place, b"?", _LOGPROB - place) for place in range(top)]
        return [
            TokenLogprob(token, word, _LOGPROB if index else math.nan, tuple(others) if index else ())
            for index, (token, word) in enumerate(zip(tokens, words, strict=True))
        ]


class FakeEmbeddingEngine(_Loading, EmbeddingEngine):
    """Vectors of two models, the second of which may be truncated; a word is a token."""

    def __init__(self, *, ready: bool = True, failure: str | None = None, dimensions: int = 8) -> None:
        super().__init__(ready, failure)
        self._models = {
            contracts.LOCAL_EMBEDDING_MODEL: EmbeddingModel(dimensions, 256),
            "fake-matryoshka": EmbeddingModel(dimensions, 512, truncatable=True),
        }

    @property
    def models(self) -> Mapping[str, EmbeddingModel]:
        return self._models

    def embed(self, model: str, inputs: Sequence[str | Tokens]) -> Embeddings:
        self.check_ready()
        if model not in self._models:
            raise UnknownModelError(model)
        dimensions = self._models[model].dimensions
        vectors, count = [], 0
        for given in inputs:
            if not isinstance(given, str) and any(not 0 <= token < 30_000 for token in given):
                raise ValueError("This model has no such token.")
            text = given if isinstance(given, str) else " ".join(map(str, given))
            raw = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[:dimensions]]
            norm = math.hypot(*raw)
            vectors.append([value / norm for value in raw])
            count += len(text.split())
        return Embeddings(vectors, count)


class FakeRerankEngine(_Loading, RerankEngine):
    """A document scores the words it shares with the query, less one half."""

    def __init__(self) -> None:
        super().__init__(True, None)
        self.rerank_model = contracts.LOCAL_RERANK_MODEL

    def rerank(self, query: str, documents: Sequence[str], max_document_tokens: int | None = None) -> Ranking:
        self.check_ready()
        documents = [" ".join(document.split()[:max_document_tokens]) for document in documents]
        wanted = set(query.lower().split())
        logits = [len(wanted & set(document.lower().split())) - 0.5 for document in documents]
        return Ranking(logits, sum(len(f"{query} {document}".split()) for document in documents))


def _least(schema: Mapping[str, Any]) -> Any:
    """The least value that a simple schema allows."""
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return _least(schema[either][0])
    kind = schema.get("type", "object")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _least(properties[name]) for name in schema.get("required", []) if name in properties}
    if kind == "array":
        return [_least(schema.get("items", {})) for _ in range(schema.get("minItems", 0))]
    return {"string": "", "integer": 0, "number": 0, "boolean": False}.get(kind)
