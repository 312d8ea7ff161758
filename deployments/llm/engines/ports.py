"""What the HTTP layer needs of engines, by role: chat, scoring, embeddings, reranking.

No engine and no HTTP is known here. Every engine implements a port, the fakes of `fakes.py` included.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FinishReason = Literal["stop", "length"]
Messages = Sequence[dict[str, str]]
"""Chat messages, each with `role` (system, user or assistant) and `content`."""
Tokens = Sequence[int]


class EngineError(Exception):
    """Something the caller can act on; the message says what."""


class UnknownModelError(EngineError):
    """No model of that id is loaded or registered."""


class ContextTooLongError(EngineError):
    """Prompt and answer do not fit the model's context."""

    def __init__(self, limit: int, prompt_tokens: int, max_tokens: int = 0) -> None:
        self.limit, self.prompt_tokens, self.max_tokens = limit, prompt_tokens, max_tokens
        # The first words are OpenAI's: by them other clients tell that a prompt is too long.
        asked = f" and {max_tokens} tokens of completion were asked for" if max_tokens else ""
        super().__init__(
            f"This model's maximum context length is {limit} tokens, but the input has {prompt_tokens}{asked}. "
            "Shorten the input, or raise GHOSTWRITER_LLM_MAX_MODEL_LEN up to what the model can."
        )


class UnsupportedError(EngineError):
    """The engine can't do what a parameter asks; `param` names it in OpenAI's terms."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class _LaterError(EngineError):
    """`retry_after`: the seconds after which another try is worth it, where known."""

    retry_after: int | None = None


class QueueFullError(_LaterError):
    """Too much runs or waits."""


class NotReadyError(_LaterError):
    """The models are still loading, or failed to load."""


@dataclass(frozen=True)
class GenerationRequest:
    """One answer to generate. `max_tokens` None: the engine's default, or what room the context leaves.

    `prompt` is chat messages, to which the model's chat template is applied, or text or tokens that are continued as
    they are. `logprobs` is how many alternatives to tell with each token, 0 for the token alone, None for nothing.
    `json_schema` holds the answer to JSON that the schema allows; `{}` allows any JSON object.
    """

    model: str
    prompt: Messages | str | Tokens
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None
    json_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens read and written; `cached_tokens` of the prompt were not computed anew."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = field(default=0, compare=False)


@dataclass(frozen=True)
class TokenLogprob:
    """A token with its natural log probability; `top` are the likeliest in its place, best first.

    `data` are the token's bytes: one character may be spread over several tokens.
    """

    id: int
    data: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True)
class Piece:
    """A bit of the answer; the last one carries the finish reason and the usage.

    `logprobs` are of all tokens since the last piece, also of those whose text is held back or cut.
    """

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


class Generation(ABC):
    """A running generation: iterate it once in any thread, cancel it from any other."""

    @property
    @abstractmethod
    def prompt_tokens(self) -> int:
        """Tokens of its prompt, known from the start."""

    @abstractmethod
    def __iter__(self) -> Iterator[Piece]: ...

    @abstractmethod
    def cancel(self) -> None:
        """Stops it soon; the iteration then ends without a finish reason. Harmless when it has ended."""


class Engine(ABC):
    """What every engine has, whatever its role."""

    @abstractmethod
    def load(self) -> None:
        """Loads its models; blocks. `ready` turns true, or `failure` says what went wrong."""

    @property
    @abstractmethod
    def ready(self) -> bool: ...

    @property
    @abstractmethod
    def failure(self) -> str | None: ...

    @abstractmethod
    def close(self) -> None:
        """Ends the engine's threads and what runs; it is not ready any more."""


class ChatEngine(Engine):
    """Runs one base chat model and adapters on it."""

    chat_model: str

    @property
    @abstractmethod
    def max_model_len(self) -> int:
        """Tokens that a prompt and its answer may have together, and a training example."""

    @abstractmethod
    def tokenize(self, text: str) -> list[int]:
        """Tokens of a text, without any that a chat template or a sentence's begin adds.
        Raises NotReadyError, and QueueFullError where others have large texts read."""

    @abstractmethod
    def detokenize(self, tokens: Tokens) -> str:
        """Their text. Raises as `tokenize` does, and ValueError for a token that the model does not have."""

    @abstractmethod
    def count_tokens(self, messages: Messages) -> int:
        """Tokens of a whole example where the assistant spoke last, else of a prompt. Raises as `tokenize`."""

    @abstractmethod
    def register_adapter(self, model_id: str, directory: Path, *, soon: bool = True) -> None:
        """Makes a fine-tuned model known: a folder as peft writes it. It may be loaded at once or when first asked for;
        without `soon` it is not loaded before that, and displaces nothing. Requests that run go on. Raises nothing: an
        adapter that does not fit fails its requests in words."""

    @abstractmethod
    def forget_adapter(self, model_id: str) -> None:
        """Takes a fine-tuned model away, from memory too; answers that run end as they would have."""

    @property
    @abstractmethod
    def adapters(self) -> Mapping[str, Path]:
        """Folders of the fine-tuned models that are known, by id: who scores beside this engine reads them too."""

    @abstractmethod
    def generate(self, request: GenerationRequest) -> Generation:
        """Queues a generation. Raises UnknownModelError, ContextTooLongError, QueueFullError, NotReadyError or
        UnsupportedError (a schema that can't be held to, a bias on a token that does not exist)."""


class ScoringEngine(Engine):
    """Tells how likely a text is to a model."""

    @abstractmethod
    def score(self, model: str, tokens: Tokens, top: int = 0) -> list[TokenLogprob]:
        """Each token's log probability after those before it; the first token's is NaN. `top` alternatives with each.

        Blocks. Raises UnknownModelError, ContextTooLongError, NotReadyError or UnsupportedError.
        """


@dataclass(frozen=True)
class EmbeddingModel:
    """An embedding model: the width of its vectors, and how many tokens of a text it reads.

    `truncatable`: whether the first numbers of a vector are a vector too (Matryoshka training).
    """

    dimensions: int
    max_tokens: int
    truncatable: bool = False


@dataclass(frozen=True)
class Embeddings:
    """Normalised vectors, one per text, and the tokens read. A vector may be an array, which takes less memory."""

    vectors: Sequence[Sequence[float]]
    prompt_tokens: int


class EmbeddingEngine(Engine):
    """Runs one or several embedding models."""

    @property
    @abstractmethod
    def models(self) -> Mapping[str, EmbeddingModel]:
        """By id; the first one is the default. Known before they are loaded."""

    @abstractmethod
    def embed(self, model: str, inputs: Sequence[str | Tokens]) -> Embeddings:
        """Vectors of texts or token lists; one longer than the model reads is cut. Blocks.

        Raises UnknownModelError, NotReadyError, and ValueError for a token that the model does not have.
        """


@dataclass(frozen=True)
class Ranking:
    """Raw logits, one per document in the order given: above zero it likely answers; and the tokens read."""

    logits: list[float]
    prompt_tokens: int


class RerankEngine(Engine):
    """Runs one cross-encoder."""

    rerank_model: str

    @abstractmethod
    def rerank(self, query: str, documents: Sequence[str], max_document_tokens: int | None = None) -> Ranking:
        """How well each document answers the query; what is too long is cut from the document, and from a query that
        would leave it less than half. `max_document_tokens` cuts documents sooner. Blocks. Raises NotReadyError."""
