"""The guard before the chat engine."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deployments.llm.engines.ports import (
    ChatEngine,
    Generation,
    GenerationRequest,
    Messages,
    Piece,
    QueueFullError,
    Tokens,
    Usage,
)
from deployments.llm.guards.guard import Guard, Reason, note
from deployments.llm.metrics import Metrics
from deployments.llm.request_notes import ClientGoneError
from deployments.llm.work import Floor, Work


class GuardedGeneration(Generation):
    """A generation with a time limit, which is counted once when it ends."""

    def __init__(
        self,
        guarded: Generation,
        work: Work,
        reason: Reason,
        end: Callable[[Work, Usage | None, str, int], None],
        first: Callable[[Work], None],
    ) -> None:
        self._guarded, self._work, self._reason, self._end, self._first = guarded, work, reason, end, first
        self._pieces = 0

    @property
    def prompt_tokens(self) -> int:
        return self._guarded.prompt_tokens

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


class GuardedChat(Guard, ChatEngine):
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
        reason = Reason(guarded.cancel)
        work = self._floor.begin(reason)

        def end(work: Work, usage: Usage | None, how: str, pieces: int) -> None:
            if not self._floor.end(work, whole=usage is not None):
                return
            # Half an answer is paid for too: its tokens are not told, but there were no fewer than pieces.
            spent = usage or Usage(guarded.prompt_tokens, pieces)
            note(self._metrics, work, request.model, spent)
            self._metrics.generations.labels(request.model, how).inc()

        def note_first(work: Work) -> None:
            seconds = self._floor.note_begun(work)
            self._metrics.first_token_seconds.labels(request.model).observe(seconds)

        return GuardedGeneration(guarded, work, reason, end, note_first)
