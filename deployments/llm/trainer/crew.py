"""transformers' Trainer, with the examples of a batch computed side by side on a CPU, each worker on its own cores.

One pass over a padded batch has thousands of small operations, each of which waits for the slowest core, and keeps the
activations of the padding too. On a GPU there is one worker, which is the Trainer as it is.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import Trainer

from deployments.llm.trainer.data import Example

Result = TypeVar("Result")


@dataclass(frozen=True)
class Sums:
    """Over tokens that are learned: their loss, how many were the likeliest, and how many there are."""

    loss: float
    correct: int
    count: int


def add(parts: Iterable[Sums]) -> Sums:
    """The sums of all parts, in their order."""
    loss, correct, count = 0.0, 0, 0
    for part in parts:
        loss, correct, count = loss + part.loss, correct + part.correct, count + part.count
    return Sums(loss, correct, count)


class Crew:
    """Threads that share a batch; results come in the order of the examples, whoever is done first."""

    def __init__(self, workers: int, threads: int) -> None:
        self._workers = workers
        self._pool = ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)
        )

    def share(
        self, examples: Sequence[Example], compute: Callable[[Sequence[Example]], Result]
    ) -> list[Result]:
        """What `compute` makes of each worker's share."""
        size = -(-len(examples) // self._workers)
        shares = [examples[start : start + size] for start in range(0, len(examples), size)]
        return list(self._pool.map(compute, shares))


class CrewTrainer(Trainer):
    """A Trainer whose step is computed by a crew. `sum_loss` gives the summed loss of examples, with a graph."""

    crew: Crew
    accuracy = 0.0

    def sum_loss(self, examples: Sequence[Example]) -> tuple[torch.Tensor, Sums]:
        """Of a share. Overridden; called from several threads at once."""
        raise NotImplementedError

    def training_step(
        self, model: Any, inputs: dict[str, Sequence[Example]], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Leaves the mean gradient per learned token on the adapters. Gradients are added in the order of the
        examples, so that their sum is the same each time."""
        model.train()
        adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]

        def compute(share: Sequence[Example]) -> tuple[Sums, tuple[torch.Tensor, ...]]:
            loss, sums = self.sum_loss(share)
            return sums, torch.autograd.grad(loss, adapters)

        sums, gradients = zip(*self.crew.share(inputs["examples"], compute), strict=True)
        total = add(sums)
        for adapter, *parts in zip(adapters, *gradients, strict=True):
            adapter.grad = torch.stack(parts).sum(0) / total.count
        self.accuracy = total.correct / total.count
        return torch.tensor(total.loss / total.count, device=self.args.device)

    def evaluate_examples(self, examples: Sequence[Example], size: int) -> Sums:
        """Sums over all examples, `size` at a time, without learning from them."""
        self.model.eval()

        def compute(share: Sequence[Example]) -> Sums:
            with torch.no_grad():
                return self.sum_loss(share)[1]

        batches = (examples[start : start + size] for start in range(0, len(examples), size))
        return add(add(self.crew.share(batch, compute)) for batch in batches)
