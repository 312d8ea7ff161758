"""What the HTTP layer needs of an engine: models, generations, embeddings.

It knows neither torch nor HTTP; every engine implements it, the fake beside it included.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FinishReason = Literal["stop", "length"]
Messages = Sequence[dict[str, str]]
"""Chat messages, each with `role` and `content`."""


class EngineError(Exception):
    """Something the caller can act on; the message says what."""


class UnknownModelError(EngineError):
    """No model of that id is loaded or registered."""


class ContextTooLongError(EngineError):
    """Prompt and answer do not fit the model's context."""

    def __init__(self, limit: int, prompt_tokens: int, max_tokens: int = 0) -> None:
        self.limit, self.prompt_tokens, self.max_tokens = limit, prompt_tokens, max_tokens
        asked = f" and {max_tokens} tokens of completion were asked for" if max_tokens else ""
        super().__init__(
            f"This model's context is {limit} tokens, but the input has {prompt_tokens}{asked}. "
            "Shorten the input, or raise GHOSTWRITER_LLM_MAX_MODEL_LEN up to what the model can."
        )


class QueueFullError(EngineError):
    """Too many generations run or wait."""


class NotReadyError(EngineError):
    """The models are still loading, or failed to load."""


@dataclass(frozen=True)
class GenerationRequest:
    """One answer to generate. `max_tokens` None: the engine's default, or what room the context leaves."""

    model: str
    messages: Messages
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int = 0


@dataclass(frozen=True)
class Piece:
    """A bit of the answer; the last one carries the finish reason and the usage."""

    text: str
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class Generation(ABC):
    """A running generation: iterate it once in any thread, cancel it from any other."""

    @abstractmethod
    def __iter__(self) -> Iterator[Piece]: ...

    @abstractmethod
    def cancel(self) -> None:
        """Stops it soon; the iteration then ends without a finish reason. Harmless when it has ended."""


@dataclass(frozen=True)
class Embeddings:
    """Normalised vectors, one per text, and the tokens read."""

    vectors: list[list[float]]
    prompt_tokens: int


class Engine(ABC):
    """Runs one base chat model, adapters on it, and one embedding model."""

    chat_model: str
    embedding_model: str

    @abstractmethod
    def load(self) -> None:
        """Loads the base models; blocks. `ready` turns true, or `failure` says what went wrong."""

    @property
    @abstractmethod
    def ready(self) -> bool: ...

    @property
    @abstractmethod
    def failure(self) -> str | None: ...

    @property
    @abstractmethod
    def max_model_len(self) -> int:
        """Tokens that a prompt and its answer may have together, and a training example."""

    @abstractmethod
    def count_tokens(self, messages: Messages) -> int:
        """Tokens of a whole example where the assistant spoke last, else of a prompt. Raises NotReadyError."""

    @abstractmethod
    def register_adapter(self, model_id: str, directory: Path) -> None:
        """Makes a fine-tuned model known; it is loaded when first asked for."""

    @abstractmethod
    def forget_adapter(self, model_id: str) -> None:
        """Takes a fine-tuned model away, from memory too."""

    @abstractmethod
    def generate(self, request: GenerationRequest) -> Generation:
        """Queues a generation. Raises UnknownModelError, ContextTooLongError, QueueFullError or NotReadyError."""

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of texts; a text longer than the embedding model reads is cut. Raises NotReadyError."""

    @abstractmethod
    def close(self) -> None:
        """Ends the engine's threads and running generations."""
