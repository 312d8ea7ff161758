"""One answer on llama.cpp: its chunks become pieces. It knows no queue and no server beyond the one it is given."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deployments.llm.engines.answer_text import AnswerText
from deployments.llm.engines.llama_cpp.request_body import watches_tokens, write_body
from deployments.llm.engines.ports import (
    EngineError,
    FinishReason,
    GenerationRequest,
    Piece,
    TokenLogprob,
    Usage,
)
from deployments.llm.engines.queued_generation import QueuedGeneration

if TYPE_CHECKING:
    from deployments.llm.engines.llama_cpp.server import LlamaServer


class LlamaGeneration(QueuedGeneration):
    """The worker's thread runs it, the caller's takes the pieces.

    `check` raises EngineError for a whole answer that breaks what the grammar was to hold it to.
    """

    def __init__(
        self,
        request: GenerationRequest,
        prompt: Sequence[int],
        max_tokens: int,
        grammar: str = "",
        check: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self.request, self.prompt, self.max_tokens = request, prompt, max_tokens
        self._grammar, self._check = grammar, check
        self._answer = AnswerText(request.stop)
        self._text = ""
        self._tokens: list[int] = []  # of the answer, known where they are watched
        self._begun_at = 0  # tokens of the answer that the running request was given
        self._written = 0
        self._cached = 0
        self._untold: list[TokenLogprob] = []
        self._unused = frozenset(prompt) if watches_tokens(request) else frozenset[int]()

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt)

    def run(self, server: "LlamaServer", lora: Sequence[Mapping[str, float]]) -> None:
        """Generates on the server to the end. Raises EngineError."""
        while not self.ended.is_set():
            self._begun_at = len(self._tokens)
            written = self._written
            body = write_body(self.request, self.prompt, self._tokens, self.max_tokens, lora, self._grammar)
            server.complete(body, self._take)
            if self._written == written and not self.ended.is_set():
                raise EngineError("llama.cpp ended the answer without a reason.")

    def _take(self, chunk: Mapping[str, Any]) -> bool:
        """One chunk; True where llama.cpp shall stop."""
        if self.ended.is_set():
            return True
        choice = chunk["choices"][0]
        if choice["finish_reason"]:
            self._finish(choice["finish_reason"], chunk["usage"])
            return True
        if (timings := chunk.get("timings")) and "prompt_progress" not in chunk:
            self._written = self._begun_at + int(timings["predicted_n"])
            if not self._begun_at:
                self._cached = int(timings["cache_n"])
        told = (choice["logprobs"] or {}).get("content") or []
        if self.request.logprobs is not None:
            self._untold += [read_logprob(one, self.request.logprobs) for one in told if one["bytes"]]
        self._text += choice["text"]
        piece = self._answer.push(self._text)
        if self._answer.stopped:
            self._put(piece, "stop")
            return True
        if piece:
            self._put(piece)
        return self._watch([int(one["id"]) for one in told])

    def _watch(self, tokens: Sequence[int]) -> bool:
        """Whether the answer has to go on with other penalties: it used a token of the prompt for the first time."""
        if not watches_tokens(self.request):
            return False
        self._tokens += tokens
        used = self._unused.intersection(tokens)
        self._unused -= used
        # A character of several tokens comes with the last one's number alone: from there it can't be taken up.
        return bool(used) and len(self._tokens) == self._written < self.max_tokens

    def _finish(self, reason: FinishReason, usage: Mapping[str, Any]) -> None:
        self._written = self._begun_at + int(usage["completion_tokens"])
        rest = self._answer.push(self._text, last=True)
        if reason == "stop" and not self._answer.stopped:
            self._check(self._text)
        self._put(rest, "stop" if self._answer.stopped else reason)

    def _put(self, text: str, reason: FinishReason | None = None) -> None:
        usage = Usage(len(self.prompt), self._written, self._cached) if reason else None
        self.put(Piece(text, reason, usage, tuple(self._untold)))
        self._untold.clear()
        if reason:
            self.ended.set()


def read_logprob(told: Mapping[str, Any], top: int) -> TokenLogprob:
    """A token as llama.cpp tells it, with so many alternatives."""
    others = tuple(read_logprob(one, 0) for one in told.get("top_logprobs", [])[:top])
    return TokenLogprob(int(told["id"]), bytes(told["bytes"]), float(told["logprob"]), others)
