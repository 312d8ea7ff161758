"""Training data as tokens: what of an example is learned from, in which order examples come, how a batch is laid out.

It knows no model.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import torch
from torch.utils.data import Sampler

from deployments.llm.engines.ports import Messages
from deployments.llm.engines.torch.chat_tokens import encode_example

_POOL: Final = 8
"""Batches whose examples are sorted by length together: enough to pad little, few enough to mix well."""


@dataclass(frozen=True)
class Example:
    """Tokens, and which of them are learned: the assistant's."""

    ids: list[int]
    learned: list[bool]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.ids)


def encode_examples(tokenizer: Any, conversations: Sequence[Messages], limit: int) -> list[Example]:
    """Examples whose last message is the assistant's. Raises ValueError, with its number, for one that is too long."""
    return [encode(tokenizer, messages, number, limit) for number, messages in enumerate(conversations, 1)]


def encode(tokenizer: Any, messages: Messages, number: int, limit: int) -> Example:
    """One example. Raises ValueError where it has more tokens than `limit`."""
    runs = encode_example(tokenizer, messages)
    example = Example(
        list(chain.from_iterable(ids for ids, _ in runs)),
        list(chain.from_iterable([said] * len(ids) for ids, said in runs)),
    )
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
    batches = [ordered[start : start + size] for start in range(0, whole, size)]
    shuffler.shuffle(batches)
    return [*chain.from_iterable(batches), *ordered[whole:]]


class EpochOrder(Sampler[int]):
    """The order of each epoch. It depends on nothing that a restart would have to bring back."""

    def __init__(self, lengths: Sequence[int], size: int, seed: int) -> None:
        self._lengths, self._size, self._seed, self._epoch = lengths, size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Counted from 0; the data loader says it."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(order_examples(self._lengths, self._size, self._seed, self._epoch))

    def __len__(self) -> int:
        return len(self._lengths)


def collate(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """A batch padded on the left. `learned` has the last columns alone, from the first one that is learned in any row:
    the model need not compute logits for the others."""
    width = max(example.length for example in examples)
    kept = max(example.length - example.learned.index(True) for example in examples)
    mask = torch.tensor([[0] * (width - example.length) + [1] * example.length for example in examples])
    return {
        "input_ids": torch.tensor([[0] * (width - example.length) + example.ids for example in examples]),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "learned": torch.tensor(
            [([False] * (width - example.length) + example.learned)[-kept:] for example in examples]
        ),
    }
