"""Computes the examples of a batch side by side, each worker on its own cores.

On a CPU that is faster than one pass with all cores: a pass has thousands of small operations, each of which would
wait for the slowest core. On a GPU there is one worker.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from deployments.llm.trainer.data import Example

Precision = Callable[[], contextlib.AbstractContextManager[Any]]


@dataclass(frozen=True)
class Outcome:
    """Sums over the answers' tokens: loss, and how many were the likeliest; and how many there are."""

    loss: float
    correct: int
    count: int


def choose_threads(cores: int) -> int:
    """All but one of more than two cores: the rest of the system goes on beside a job."""
    return cores - 1 if cores > 2 else cores


class Crew:
    """Threads that compute. Gradients are added in the order of the examples, so their sum does not depend on who is
    done first."""

    def __init__(self, model: Any, precision: Precision, batch_size: int, threads: int = 0) -> None:
        self._model, self._precision, self._batch_size = model, precision, batch_size
        self.adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        threads = threads or choose_threads(os.cpu_count() or 1)
        self._workers = min(threads, batch_size) if model.device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(
            self._workers, initializer=torch.set_num_threads, initargs=(max(1, threads // self._workers),)
        )

    def learn(self, batch: Sequence[Example]) -> Outcome:
        """Leaves the mean gradient per token of the answers on the adapters."""

        def compute(share: Sequence[Example]) -> tuple[Outcome, tuple[torch.Tensor, ...]]:
            loss, correct, count = self._forward(share)
            return Outcome(loss.item(), correct, count), torch.autograd.grad(loss, self.adapters)

        outcomes, gradients = zip(*self._pool.map(compute, self._share(batch)), strict=True)
        total = _add(outcomes)
        for adapter, *parts in zip(self.adapters, *gradients, strict=True):
            adapter.grad = torch.stack(parts).sum(0) / total.count
        return total

    def evaluate(self, examples: Sequence[Example]) -> Outcome:
        """Sums over all examples, without learning from them."""

        def compute(share: Sequence[Example]) -> Outcome:
            with torch.no_grad():
                loss, correct, count = self._forward(share)
            return Outcome(loss.item(), correct, count)

        self._model.eval()
        ordered = sorted(examples, key=lambda example: example.length)
        size = max(1, self._batch_size // self._workers)
        return _add(list(self._pool.map(compute, _cut(ordered, size))))

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def _share(self, batch: Sequence[Example]) -> list[Sequence[Example]]:
        return _cut(batch, -(-len(batch) // self._workers))

    def _forward(self, batch: Sequence[Example]) -> tuple[torch.Tensor, int, int]:
        """Summed loss, correct tokens and token count.

        Padded on the left, all answers end in one column: logits are computed for the longest answer's columns alone.
        """
        width = max(example.length for example in batch)
        longest = max(len(example.answer) for example in batch)
        device = self._model.device
        rows = [example.prompt + example.answer for example in batch]
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        wanted = torch.tensor(
            [[False] * (longest - len(e.answer)) + [True] * len(e.answer) for e in batch], device=device
        )
        with self._precision():
            logits = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                use_cache=False,
                logits_to_keep=longest + 1,
            ).logits
        logits, targets = logits[:, :-1][wanted].float(), ids[:, -longest:][wanted]
        loss = cross_entropy(logits, targets, reduction="sum")
        return loss, int((logits.argmax(-1) == targets).sum()), len(targets)


def _cut(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    return [examples[start : start + size] for start in range(0, len(examples), size)]


def _add(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(
        sum(one.loss for one in outcomes),
        sum(one.correct for one in outcomes),
        sum(one.count for one in outcomes),
    )
