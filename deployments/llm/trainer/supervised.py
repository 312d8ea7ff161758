"""Fine-tunes the chat model on chat examples with LoRA adapters and writes the adapter.

It knows no job, file format or tracker: examples and a callback go in, a directory comes out.
"""

import contextlib
import logging
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from deployments.llm.engines.ports import Messages
from deployments.llm.engines.torch.chat_tokens import encode_example
from deployments.llm.engines.torch.device import choose_device, choose_dtype

log = logging.getLogger(__name__)

RANK: Final = 8
ALPHA: Final = 16
LEARNING_RATE: Final = 2e-3
WARM_UP_STEPS: Final = 3
_IGNORED: Final = -100

Precision = Callable[[], contextlib.AbstractContextManager[Any]]


class TrainingStoppedError(RuntimeError):
    """The callback asked for an end."""


@dataclass(frozen=True)
class TrainingSettings:
    """What a job may choose; the rest is fixed above."""

    epochs: int
    batch_size: int
    learning_rate_multiplier: float
    seed: int
    threads: int = 0
    max_tokens: int = 2048  # of an example


@dataclass(frozen=True)
class Progress:
    """One step; the validation numbers come with the last step of an epoch."""

    step: int
    total_steps: int
    train_loss: float
    train_accuracy: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None


@dataclass(frozen=True)
class _Example:
    ids: list[int]
    labels: list[int]


def train_adapter(
    weights: str,
    train: Sequence[Messages],
    validation: Sequence[Messages],
    settings: TrainingSettings,
    target: Path,
    report: Callable[[Progress], None],
) -> int:
    """Trains, writes the adapter to `target` and returns the tokens trained on. `report` may raise to stop it."""
    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    examples, held_out = (
        [_encode(tokenizer, messages, number, settings.max_tokens) for number, messages in enumerate(each, 1)]
        for each in (train, validation)
    )
    model, precision = _build_model(weights)
    adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        adapters, lr=LEARNING_RATE * settings.learning_rate_multiplier, weight_decay=0.0
    )
    batches_per_epoch = -(-len(examples) // settings.batch_size)
    total = batches_per_epoch * settings.epochs
    crew = _Crew(model, precision, adapters, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total))
    shuffler, step, started = random.Random(settings.seed), 0, time.monotonic()
    tokens_per_epoch = sum(len(example.ids) for example in examples)
    log.info("%d examples, %d tokens an epoch, %d steps", len(examples), tokens_per_epoch, total)
    for epoch in range(1, settings.epochs + 1):
        model.train()
        for batch in _shuffle(examples, settings.batch_size, shuffler):
            step += 1
            loss, correct, count = crew.learn(batch)
            if not math.isfinite(loss):
                raise ValueError(f"The loss became {loss} at step {step}: use a smaller learning rate.")
            torch.nn.utils.clip_grad_norm_(adapters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            scores: tuple[float | None, float | None] = (None, None)
            if held_out and step == epoch * batches_per_epoch:
                scores = crew.evaluate(held_out)
            report(Progress(step, total, loss / count, correct / count, *scores))
    log.info("%.0f tokens/s", settings.epochs * tokens_per_epoch / (time.monotonic() - started))
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return settings.epochs * tokens_per_epoch


def choose_threads(cores: int) -> int:
    """All but one of more than two cores: the rest of the system goes on beside a job."""
    return cores - 1 if cores > 2 else cores


class _Crew:
    """Computes the examples of a batch side by side, each worker on its own cores.

    On a CPU that is faster than one pass with all cores: a pass has thousands of small operations, each of which would
    wait for the slowest core. Gradients are added in the order of the examples, so their sum does not depend on who is
    done first. On a GPU there is one worker.
    """

    def __init__(
        self, model: Any, precision: Precision, adapters: list[Any], settings: TrainingSettings
    ) -> None:
        self._model, self._precision, self._adapters = model, precision, adapters
        threads = settings.threads or choose_threads(os.cpu_count() or 1)
        self._workers = 1 if model.device.type == "cuda" else min(threads, settings.batch_size)
        self._batch_size = settings.batch_size
        self._pool = ThreadPoolExecutor(
            self._workers, initializer=torch.set_num_threads, initargs=(max(1, threads // self._workers),)
        )

    def learn(self, batch: list[_Example]) -> tuple[float, int, int]:
        """Leaves the batch's mean gradient on the adapters; summed loss, correct tokens and token count."""

        def compute(share: list[_Example]) -> tuple[float, int, int, tuple[torch.Tensor, ...]]:
            with self._precision():
                loss, correct, count = _forward(self._model, share)
            return loss.item(), correct, count, torch.autograd.grad(loss, self._adapters)

        losses, corrects, counts, gradients = zip(*self._pool.map(compute, self._share(batch)), strict=True)
        for adapter, *parts in zip(self._adapters, *gradients, strict=True):
            adapter.grad = torch.stack(parts).sum(0) / sum(counts)
        return sum(losses), sum(corrects), sum(counts)

    def evaluate(self, examples: list[_Example]) -> tuple[float, float]:
        """Mean loss and accuracy per assistant token."""

        def compute(share: list[_Example]) -> tuple[float, int, int]:
            with torch.no_grad(), self._precision():
                loss, correct, count = _forward(self._model, share)
            return loss.item(), correct, count

        self._model.eval()
        size = max(1, self._batch_size // self._workers)
        shares = [examples[start : start + size] for start in range(0, len(examples), size)]
        losses, corrects, counts = zip(*self._pool.map(compute, shares), strict=True)
        return sum(losses) / sum(counts), sum(corrects) / sum(counts)

    def _share(self, batch: list[_Example]) -> list[list[_Example]]:
        size = -(-len(batch) // self._workers)
        return [batch[start : start + size] for start in range(0, len(batch), size)]


def _build_model(weights: str) -> tuple[Any, Precision]:
    """The base model with adapters: bf16 base and fp32 adapters under autocast where the hardware has it."""
    dtype, device = choose_dtype(), choose_device()
    base = AutoModelForCausalLM.from_pretrained(weights, dtype=dtype).to(device)
    base.config.use_cache = False
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, config, autocast_adapter_dtype=True)
    if dtype == torch.float32:
        return model, contextlib.nullcontext
    return model, lambda: torch.autocast(device.type, dtype=dtype, cache_enabled=False)


def _encode(tokenizer: Any, messages: Messages, number: int, limit: int) -> _Example:
    """Token ids, with labels on the last assistant message alone; the prompt is masked by its length."""
    prompt_ids, answer_ids = encode_example(tokenizer, messages)
    if len(prompt_ids) + len(answer_ids) > limit:
        raise ValueError(
            f"Example {number} has {len(prompt_ids) + len(answer_ids)} tokens; {limit} is the limit."
        )
    return _Example(prompt_ids + answer_ids, [_IGNORED] * len(prompt_ids) + answer_ids)


def _shuffle(examples: list[_Example], size: int, shuffler: random.Random) -> list[list[_Example]]:
    order = shuffler.sample(examples, len(examples))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _rate(step: int, total: int) -> float:
    """Linear warm-up over a few steps, then linear decay to zero after the last."""
    warm_up = min(WARM_UP_STEPS, max(total - 1, 0))
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return max(0.0, (total - step) / max(1, total - warm_up))


def _forward(model: Any, batch: Sequence[_Example]) -> tuple[torch.Tensor, int, int]:
    """Summed loss, correct tokens and token count; logits are computed for the labelled positions alone."""
    width = max(len(example.ids) for example in batch)
    device = model.device
    ids = torch.tensor([example.ids + [0] * (width - len(example.ids)) for example in batch], device=device)
    mask = torch.tensor([[1] * len(e.ids) + [0] * (width - len(e.ids)) for e in batch], device=device)
    labels = torch.tensor(
        [example.labels + [_IGNORED] * (width - len(example.labels)) for example in batch], device=device
    )
    causal = model.get_base_model()
    hidden = causal.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    wanted = labels[:, 1:] != _IGNORED
    targets = labels[:, 1:][wanted]
    logits = causal.get_output_embeddings()(hidden[:, :-1][wanted]).float()
    loss = cross_entropy(logits, targets, reduction="sum")
    return loss, int((logits.argmax(-1) == targets).sum()), len(targets)
