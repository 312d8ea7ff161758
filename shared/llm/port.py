"""What Ghostwriter asks of a language-model provider when it writes and retrieves.

It knows no vendor. Fine-tuning jobs are asked for in the training deployment alone and have their port there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict


class Message(TypedDict):
    """One chat message, in OpenAI's shape."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Decoding:
    """How an answer is drawn from the model; the parameters are OpenAI's, the likeliest words by default."""

    max_tokens: int
    temperature: float = 0.0
    frequency_penalty: float = 0.0


class LlmError(RuntimeError):
    """The provider refused or could not be reached; the message says what to do."""


class LlmRefusedError(LlmError):
    """The provider refused for a reason that trying again won't mend: a wrong key, a bad request."""


class Llm(ABC):
    """A provider of chat, embeddings and images."""

    @abstractmethod
    def stream_chat(self, model: str, messages: Sequence[Message], decoding: Decoding) -> Iterator[str]:
        """Pieces of the answer as they come; closing the iterator stops the generation. Raises LlmError."""

    def complete_chat(self, model: str, messages: Sequence[Message], decoding: Decoding) -> str:
        """The whole answer. Raises LlmError."""
        return "".join(self.stream_chat(model, messages, decoding))

    @abstractmethod
    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """One unit vector per text, in order. Raises LlmError."""

    @abstractmethod
    def rerank(self, model: str, query: str, texts: Sequence[str]) -> list[float]:
        """One logit per text, in order: the higher, the likelier the text answers the query; 0 is as likely as not.

        Raises LlmError; LlmRefusedError where the provider can't rerank or has no such model.
        """

    @abstractmethod
    def draw(self, model: str, prompt: str, *, size: str = "1024x1024") -> bytes:
        """A picture as PNG or JPEG bytes. Raises LlmError."""

    @abstractmethod
    def list_models(self) -> list[str]:
        """Ids of the models that can be used now. Raises LlmError."""

    def knows_model(self, model: str) -> bool:
        """Whether the provider has this model. Raises LlmError where it can't say: unreachable is not unknown."""
        return model in self.list_models()
