"""Learns the assistant's words, with logits computed where something is learned alone.

Without that, most of the memory and a third of the time goes into logits of the prompt, which nobody reads.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import TrainingArguments

from deployments.llm.trainer.crew import Crew, CrewTrainer, Sums
from deployments.llm.trainer.data import Example, collate
from deployments.llm.trainer.durable import DurableTraining


class SupervisedTrainer(DurableTraining, CrewTrainer):
    """Trains a model with adapters on examples; `dtype` is what it computes in."""

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        train: Sequence[Example],
        held_out: Sequence[Example],
        dtype: torch.dtype,
        threads: int,
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=train, data_collator=_gather)
        self._held_out = sorted(held_out, key=lambda example: example.length)
        self._dtype = dtype
        size = arguments.per_device_train_batch_size
        self.crew = Crew(min(threads, size) if model.device.type == "cpu" else 1, threads)

    def sum_loss(self, examples: Sequence[Example]) -> tuple[torch.Tensor, Sums]:
        device = self.model.device
        batch = {name: tensor.to(device) for name, tensor in collate(examples).items()}
        learned = batch.pop("learned")
        kept = learned.shape[1]
        with self._precision():
            logits = self.model(**batch, use_cache=False, logits_to_keep=kept + 1).logits
        logits, targets = logits[:, :-1][learned].float(), batch["input_ids"][:, -kept:][learned]
        loss = cross_entropy(logits, targets, reduction="sum")
        correct = int((logits.argmax(-1) == targets).sum())
        return loss, Sums(loss.item(), correct, len(targets))

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self._dtype == torch.float32:
            return contextlib.nullcontext()
        # The cache of cast weights would be shared by the threads, with the graph of whoever filled it.
        return torch.autocast(self.model.device.type, dtype=self._dtype, cache_enabled=False)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss and accuracy per token of the assistant's, over all examples held out."""
        sums = self.evaluate_examples(self._held_out, self.args.per_device_eval_batch_size)
        metrics = {"eval_loss": sums.loss / sums.count, "eval_mean_token_accuracy": sums.correct / sums.count}
        self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )  # it changes the control
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, "mean_token_accuracy": self.accuracy}, start_time)


def _gather(examples: Sequence[Example]) -> dict[str, Sequence[Example]]:
    return {"examples": examples}
