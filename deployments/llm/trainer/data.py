"""Training data as tokens: what of an example is learned from, and in which order examples come.

It knows no model: lists of numbers come out.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from deployments.llm.engines.ports import Messages
from deployments.llm.engines.torch.chat_tokens import encode_example

_POOL: Final = 8
"""Batches whose examples are sorted by length together: enough to pad little, few enough to mix well."""


@dataclass(frozen=True)
class Example:
    """Tokens of a prompt and of the assistant's answer; only the answer is learned."""

    prompt: list[int]
    answer: list[int]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class Preference:
    """A prompt with the answer that is preferred and the one that is not."""

    chosen: Example
    rejected: Example

    @property
    def length(self) -> int:
        """Tokens of both."""
        return self.chosen.length + self.rejected.length


def encode_examples(tokenizer: Any, conversations: Sequence[Messages], limit: int) -> list[Example]:
    """Examples whose last message is the assistant's. Raises ValueError, with its number, for one that is too long."""
    return [encode(tokenizer, messages, number, limit) for number, messages in enumerate(conversations, 1)]


def encode(tokenizer: Any, messages: Messages, number: int, limit: int) -> Example:
    """One example. Raises ValueError where it has more tokens than `limit`."""
    example = Example(*encode_example(tokenizer, messages))
    if example.length > limit:
        raise ValueError(f"Example {number} has {example.length} tokens; {limit} is the limit.")
    return example


def order_examples(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[int]:
    """Indices of all examples, to be cut into batches of `size`; alike for the same seed and epoch.

    Examples of a batch are about equally long, and the batches come in any order; a smaller one comes last.
    """
    shuffler = random.Random(f"{seed}/{epoch}")
    order = shuffler.sample(range(len(lengths)), len(lengths))
    pools = [order[start : start + _POOL * size] for start in range(0, len(order), _POOL * size)]
    ordered = [index for pool in pools for index in sorted(pool, key=lambda index: lengths[index])]
    whole = len(ordered) // size * size
    rest = ordered[whole:]
    batches = [ordered[start : start + size] for start in range(0, whole, size)]
    shuffler.shuffle(batches)
    return [index for batch in batches for index in batch] + rest
