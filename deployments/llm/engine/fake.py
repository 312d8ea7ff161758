"""An engine without a model: answers are made from the last message, vectors from a hash.

It knows no torch; tests of the HTTP layer run on it.
"""

import hashlib
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from deployments.llm.engine.limits import limit_answer
from deployments.llm.engine.port import (
    Embeddings,
    Engine,
    FinishReason,
    Generation,
    GenerationRequest,
    Messages,
    NotReadyError,
    Piece,
    QueueFullError,
    UnknownModelError,
    Usage,
)
from shared import contracts


class FakeGeneration(Generation):
    """Yields one word at a time; `gate`, when given, is waited for before each word."""

    def __init__(
        self, words: list[str], prompt_tokens: int, limit: int, gate: threading.Semaphore | None
    ) -> None:
        self._words, self._prompt_tokens, self._limit, self._gate = words, prompt_tokens, limit, gate
        self.cancelled = threading.Event()

    def __iter__(self) -> Iterator[Piece]:
        finish: FinishReason = "stop" if len(self._words) <= self._limit else "length"
        words = self._words[: self._limit]
        for word in words:
            while self._gate and not self._gate.acquire(timeout=0.05):
                if self.cancelled.is_set():
                    return
            if self.cancelled.is_set():
                return
            yield Piece(word)
        yield Piece("", finish, Usage(self._prompt_tokens, len(words)))

    def cancel(self) -> None:
        self.cancelled.set()


class FakeEngine(Engine):
    """Repeats the last message; `gate` holds generations back; it stays unloaded with `ready=False` or a `failure`."""

    def __init__(
        self,
        *,
        ready: bool = True,
        failure: str | None = None,
        context: int = 200,
        default_max_tokens: int = 1024,
        max_queue: int = 100,
        dimensions: int = 8,
        gate: threading.Semaphore | None = None,
    ) -> None:
        self.chat_model, self.embedding_model = contracts.LOCAL_CHAT_MODEL, contracts.LOCAL_EMBEDDING_MODEL
        self._loads, self._ready, self._failure = ready and not failure, False, failure
        self._default_max_tokens = default_max_tokens
        self._context, self._max_queue, self._dimensions, self._gate = context, max_queue, dimensions, gate
        self.adapters: dict[str, Path] = {}
        self.generations: list[FakeGeneration] = []

    def load(self) -> None:
        self._ready = self._loads

    @property
    def ready(self) -> bool:
        return self._ready

    @property
    def failure(self) -> str | None:
        return self._failure

    @property
    def max_model_len(self) -> int:
        return self._context

    def count_tokens(self, messages: Messages) -> int:
        if not self._ready:
            raise NotReadyError("The models are loading.")
        return sum(len(message["content"].split()) for message in messages)

    def register_adapter(self, model_id: str, directory: Path) -> None:
        self.adapters[model_id] = directory

    def forget_adapter(self, model_id: str) -> None:
        self.adapters.pop(model_id, None)

    def generate(self, request: GenerationRequest) -> FakeGeneration:
        if not self._ready:
            raise NotReadyError("The models are loading.")
        if request.model != self.chat_model and request.model not in self.adapters:
            raise UnknownModelError(request.model)
        prompt_tokens = self.count_tokens(request.messages)
        limit = limit_answer(self._context, prompt_tokens, request.max_tokens, self._default_max_tokens)
        if len(self.generations) >= self._max_queue:
            raise QueueFullError("Too many generations wait.")
        text = request.messages[-1]["content"]
        for stop in request.stop:
            text = text.split(stop)[0]
        words = [word if index == 0 else f" {word}" for index, word in enumerate(text.split())]
        generation = FakeGeneration(words, prompt_tokens, limit, self._gate)
        self.generations.append(generation)
        return generation

    def embed(self, texts: Sequence[str]) -> Embeddings:
        if not self._ready:
            raise NotReadyError("The models are loading.")
        vectors = []
        for text in texts:
            raw = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()[: self._dimensions]]
            norm = math.sqrt(sum(value * value for value in raw))
            vectors.append([value / norm for value in raw])
        return Embeddings(vectors, sum(len(text.split()) for text in texts))

    def close(self) -> None:
        self._ready = False
        for generation in self.generations:
            generation.cancel()
