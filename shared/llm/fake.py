"""A provider for tests: deterministic, in memory, honest about its contract.

It knows no network.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence

from shared import contracts
from shared.llm.port import Decoding, Llm, LlmError, LlmRefusedError, Message

_PNG = bytes.fromhex(  # 8 x 8 pixels of one colour
    "89504e470d0a1a0a0000000d49484452000000080000000808020000004b6d29dc0000001449"
    "444154789c6354724963c00698b08a0e5a0900a48c00dc44fb2ab80000000049454e44ae426082"
)


class FakeLlm(Llm):
    """Answers each chat with `answers[model]` (or an echo of the last message); embeds by hashed words.

    A text's logit is the number of words that it shares with the query, less one half.
    """

    def __init__(self, answers: dict[str, str] | None = None, dimensions: int = 64) -> None:
        self.answers = {"fake-chat": "", **(answers or {})}
        self.dimensions = dimensions
        self.rerank_model = contracts.LOCAL_RERANK_MODEL
        self.chats: list[tuple[str, list[Message]]] = []

    def stream_chat(self, model: str, messages: Sequence[Message], decoding: Decoding) -> Iterator[str]:
        if model not in self.answers:
            raise LlmError(
                f"The model {model!r} does not exist. Choose one of {', '.join(self.list_models())}."
            )
        self.chats.append((model, list(messages)))
        answer = self.answers[model] or messages[-1]["content"]
        yield from re.findall(r"\S+\s*", answer)[: decoding.max_tokens]

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        return [self._embed_text(text) for text in texts]

    def rerank(self, model: str, query: str, texts: Sequence[str]) -> list[float]:
        if model != self.rerank_model:
            raise LlmRefusedError(f"Reranking is not possible: there is no model {model!r}.")
        wanted = set(query.lower().split())
        return [len(wanted & set(text.lower().split())) - 0.5 for text in texts]

    def draw(self, model: str, prompt: str, *, size: str = "1024x1024") -> bytes:
        return _PNG

    def list_models(self) -> list[str]:
        return sorted(self.answers)

    def _embed_text(self, text: str) -> list[float]:
        vector = [0.0] * self.dimensions
        for word in re.findall(r"\w+", text.lower()) or [""]:
            vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.dimensions] += 1.0
        norm = math.hypot(*vector)
        return [value / norm for value in vector]
