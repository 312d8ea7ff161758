"""Engines with what a server puts around them: bounds, time limits, an end when nobody waits, and counting.

It knows no engine: each guard is an engine over another one.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from deployments.llm.engines.ports import (
    ChatEngine,
    EmbeddingEngine,
    EmbeddingModel,
    Embeddings,
    Engine,
    EngineError,
    Generation,
    GenerationRequest,
    Messages,
    Piece,
    QueueFullError,
    Ranking,
    RerankEngine,
    ScoringEngine,
    TokenLogprob,
    Tokens,
    Usage,
)
from deployments.llm.engines.roles import Engines
from deployments.llm.metrics import Metrics
from deployments.llm.request_notes import ClientGoneError
from deployments.llm.work import Floor, StoppingError, Work

log = logging.getLogger(__name__)

_TEXTS: Final = 32
"""Texts that are embedded, and documents ranked, before it is looked whether somebody still waits for them."""
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class Floors:
    """The work in flight, by what does it."""

    chat: Floor
    scoring: Floor
    embedding: Floor
    rerank: Floor

    def all(self) -> Mapping[str, Floor]:
        """By name."""
        return vars(self)


def guard_engines(engines: Engines, floors: Floors, metrics: Metrics) -> Engines:
    """The same engines, each with a guard before it."""
    return Engines(
        chat=GuardedChat(engines.chat, floors.chat, metrics),
        scoring=GuardedScoring(engines.scoring, floors.scoring, metrics),
        embedding=GuardedEmbedding(engines.embedding, floors.embedding, metrics),
        rerank=GuardedRerank(engines.rerank, floors.rerank, metrics),
    )


class _Guard(Engine):
    def __init__(self, engine: Engine) -> None:
        self._guarded = engine

    def load(self) -> None:
        self._guarded.load()

    @property
    def ready(self) -> bool:
        return self._guarded.ready

    @property
    def failure(self) -> str | None:
        return self._guarded.failure

    def close(self) -> None:
        self._guarded.close()


class _Reason:
    """Why work ends before its time, once it does; said from any thread."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.error: Exception | None = None
        self._then = then

    def __call__(self, error: Exception) -> None:
        self.error = self.error or error
        self._then()

    def check(self) -> None:
        """Raises the reason as an engine's error."""
        if isinstance(self.error, EngineError):
            raise self.error
        if self.error:
            raise StoppingError(f"The work was stopped: {self.error}.")


class GuardedGeneration(Generation):
    """A generation with a time limit, which is counted once when it ends."""

    def __init__(
        self,
        guarded: Generation,
        work: Work,
        reason: _Reason,
        end: Callable[[Work, Usage | None, str, int], None],
        first: Callable[[Work], None],
    ) -> None:
        self._guarded, self._work, self._reason, self._end, self._first = guarded, work, reason, end, first
        self._pieces = 0

    def __iter__(self) -> Iterator[Piece]:
        how, usage = "failed", None
        try:
            for piece in self._guarded:
                if not self._work.begun:
                    self._first(self._work)
                self._pieces += bool(piece.text)
                if piece.finish_reason:
                    how, usage = piece.finish_reason, piece.usage
                    self._end(self._work, usage, how, self._pieces)
                yield piece
        finally:
            if usage is None:
                self._end(self._work, None, self._name_end(how), self._pieces)
        # A client that is gone, or an engine that is closed, leaves half an answer, as without a guard.
        if usage is None and not isinstance(self._reason.error, ClientGoneError):
            self._reason.check()

    def cancel(self) -> None:
        self._guarded.cancel()
        self._end(self._work, None, self._name_end("cancelled"), self._pieces)

    def _name_end(self, otherwise: str) -> str:
        return type(self._reason.error).__name__ if self._reason.error else otherwise


class GuardedChat(_Guard, ChatEngine):
    """A chat engine's generations, bounded in time and counted."""

    def __init__(self, engine: ChatEngine, floor: Floor, metrics: Metrics) -> None:
        super().__init__(engine)
        self._engine, self._floor, self._metrics = engine, floor, metrics

    @property
    def chat_model(self) -> str:  # type: ignore[override]
        return self._engine.chat_model

    @property
    def adapters(self) -> Mapping[str, Path]:
        return self._engine.adapters

    @property
    def max_model_len(self) -> int:
        return self._engine.max_model_len

    def tokenize(self, text: str) -> list[int]:
        return self._engine.tokenize(text)

    def detokenize(self, tokens: Tokens) -> str:
        return self._engine.detokenize(tokens)

    def count_tokens(self, messages: Messages) -> int:
        return self._engine.count_tokens(messages)

    def register_adapter(self, model_id: str, directory: Path, *, soon: bool = True) -> None:
        self._engine.register_adapter(model_id, directory, soon=soon)

    def forget_adapter(self, model_id: str) -> None:
        self._engine.forget_adapter(model_id)

    def generate(self, request: GenerationRequest) -> Generation:
        try:
            guarded = self._engine.generate(request)
        except QueueFullError as error:
            raise self._floor.refuse(error) from None
        reason = _Reason(guarded.cancel)
        work = self._floor.begin(reason)

        def end(work: Work, usage: Usage | None, how: str, pieces: int) -> None:
            if not self._floor.end(work, whole=usage is not None):
                return
            # Half an answer is paid for too: its tokens are not told, but there were no fewer than pieces.
            spent = usage or Usage(self._count(request), pieces)
            _note(self._metrics, work, request.model, spent)
            self._metrics.generations.labels(request.model, how).inc()

        def note_first(work: Work) -> None:
            seconds = self._floor.note_begun(work)
            self._metrics.first_token_seconds.labels(request.model).observe(seconds)

        return GuardedGeneration(guarded, work, reason, end, note_first)

    def _count(self, request: GenerationRequest) -> int:
        """Tokens of the prompt; 0 where the engine can't tell: an end must not fail, nor hide what ended it."""
        prompt = request.prompt
        try:
            if isinstance(prompt, str):
                return len(self._engine.tokenize(prompt))
            if not prompt or isinstance(prompt[0], int):
                return len(prompt)
            return self._engine.count_tokens(prompt)  # type: ignore[arg-type]
        except EngineError as error:
            log.warning("The tokens of a prompt that was stopped are not counted: %s", error)
            return 0


class GuardedScoring(_Guard, ScoringEngine):
    """A scoring engine that so many requests at most may ask at once."""

    def __init__(self, engine: ScoringEngine, floor: Floor, metrics: Metrics) -> None:
        super().__init__(engine)
        self._engine, self._floor, self._metrics = engine, floor, metrics

    def score(self, model: str, tokens: Tokens, top: int = 0) -> list[TokenLogprob]:
        with _bounded(self._floor) as (work, reason):
            reason.check()
            scored = self._engine.score(model, tokens, top)
            _note(self._metrics, work, model, Usage(len(tokens)))
            return scored


class GuardedEmbedding(_Guard, EmbeddingEngine):
    """An embedding engine that so many requests at most may ask at once, and that is given a few texts at a time."""

    def __init__(self, engine: EmbeddingEngine, floor: Floor, metrics: Metrics) -> None:
        super().__init__(engine)
        self._engine, self._floor, self._metrics = engine, floor, metrics

    @property
    def models(self) -> Mapping[str, EmbeddingModel]:
        return self._engine.models

    def embed(self, model: str, inputs: Sequence[str | Tokens]) -> Embeddings:
        # Those of about one length together: a batch is as slow as its longest text.
        order = sorted(range(len(inputs)), key=lambda place: len(inputs[place]), reverse=True)
        vectors: list[Sequence[float]] = [[]] * len(inputs)
        tokens = 0
        with _bounded(self._floor) as (work, reason):
            for places in _split(order):
                reason.check()
                some = self._engine.embed(model, [inputs[place] for place in places])
                for place, vector in zip(places, some.vectors, strict=True):
                    vectors[place] = vector
                tokens += some.prompt_tokens
                self._metrics.embedded_texts.labels(model, _key(work)).inc(len(places))
                _note(self._metrics, work, model, Usage(some.prompt_tokens))
        return Embeddings(vectors, tokens)


class GuardedRerank(_Guard, RerankEngine):
    """A rerank engine that so many requests at most may ask at once, and that is given a few documents at a time."""

    def __init__(self, engine: RerankEngine, floor: Floor, metrics: Metrics) -> None:
        super().__init__(engine)
        self._engine, self._floor, self._metrics = engine, floor, metrics
        self.rerank_model = engine.rerank_model

    def rerank(self, query: str, documents: Sequence[str], max_document_tokens: int | None = None) -> Ranking:
        logits: list[float] = []
        tokens = 0
        with _bounded(self._floor) as (work, reason):
            for some in _split(documents):
                reason.check()
                ranking = self._engine.rerank(query, some, max_document_tokens)
                logits += ranking.logits
                tokens += ranking.prompt_tokens
                self._metrics.reranked_pairs.labels(self.rerank_model, _key(work)).inc(len(some))
                _note(self._metrics, work, self.rerank_model, Usage(ranking.prompt_tokens))
        return Ranking(logits, tokens)


@contextmanager
def _bounded(floor: Floor) -> Iterator[tuple[Work, _Reason]]:
    reason = _Reason()
    work = floor.begin(reason)
    try:
        yield work, reason
    except BaseException:
        floor.end(work, whole=False)
        raise
    floor.end(work, whole=True)


def _split(items: Sequence[_Part]) -> Iterator[Sequence[_Part]]:
    """Parts of a few; one at least."""
    for start in range(0, max(1, len(items)), _TEXTS):
        yield items[start : start + _TEXTS]


def _key(work: Work) -> str:
    return work.notes.key if work.notes else "-"


def _note(metrics: Metrics, work: Work, model: str, usage: Usage) -> None:
    if work.notes:
        work.notes.add(model, usage.prompt_tokens, usage.completion_tokens)
    for kind, count in (
        ("prompt", usage.prompt_tokens),
        ("cached", usage.cached_tokens),
        ("completion", usage.completion_tokens),
    ):
        if count:
            metrics.tokens.labels(model, kind, _key(work)).inc(count)
