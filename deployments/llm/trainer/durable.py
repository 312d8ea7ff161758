"""What both methods of training share: an order of examples and checkpoints that a kill does no harm to.

It is mixed into transformers' Trainer, or a Trainer made from it, whose loop, optimizer and resuming are theirs.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback, TrainingArguments

from deployments.llm.fine_tuning.job import Hyperparameters
from deployments.llm.trainer.checkpoints import save_checkpoint
from deployments.llm.trainer.data import EpochOrder
from deployments.llm.trainer.progress import Progress

LEARNING_RATE: Final = 2e-3
WARM_UP_STEPS: Final = 3


class DurableTraining:
    """The mixin. `track` comes before `train`."""

    def track(
        self, job_dir: Path, progress: Progress, lengths: Sequence[int], parameters: Hyperparameters
    ) -> None:
        """Says where checkpoints go, who is told, and how long the examples are."""
        trainer: Any = self
        self._job_dir, self._progress = job_dir, progress
        self._order = EpochOrder(lengths, parameters.batch_size, trainer.args.seed)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(progress)

    def create_optimizer(self, model: Any = None) -> Any:
        trainer: Any = self
        if trainer.optimizer is None:
            adapters = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
            trainer.optimizer = torch.optim.AdamW(adapters, lr=trainer.args.learning_rate, weight_decay=0.0)
        return trainer.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        trainer: Any = self
        if trainer.lr_scheduler is None:
            trainer.lr_scheduler = LambdaLR(
                optimizer or trainer.optimizer, lambda step: rate(step, num_training_steps)
            )
            trainer._created_lr_scheduler = True
        return trainer.lr_scheduler

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        return self._order

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        trainer: Any = self
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not math.isfinite(loss):
            step = trainer.state.global_step + 1
            raise ValueError(f"The loss became {loss.item()} at step {step}: use a smaller learning rate.")
        return loss

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        step = trainer.state.global_step

        def write(folder: Path) -> None:
            save_adapter(trainer.model, folder)
            trainer._save_optimizer_and_scheduler(str(folder))
            trainer._save_rng_state(str(folder))
            trainer.state.save_to_json(str(folder / "trainer_state.json"))
            self._progress.write(folder)

        metrics = self._progress.rows[-1].checkpoint_metrics
        save_checkpoint(self._job_dir, step, self._progress.epoch_of(step), metrics, write)


def build_arguments(
    kind: type[TrainingArguments],
    parameters: Hyperparameters,
    *,
    seed: int,
    cpu: bool,
    bf16: bool,
    **more: Any,
) -> Any:
    """What transformers or trl is asked: the loop alone. Saving, validating and telling is `Progress`'s."""
    return kind(
        output_dir=None,
        per_device_train_batch_size=parameters.batch_size,
        per_device_eval_batch_size=parameters.batch_size,
        num_train_epochs=parameters.n_epochs,
        learning_rate=LEARNING_RATE * parameters.learning_rate_multiplier,
        max_grad_norm=1.0,
        seed=seed,
        use_cpu=cpu,
        bf16=bf16,
        gradient_checkpointing=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        **more,
    )


def save_adapter(model: Any, folder: Path) -> None:
    """Writes the adapter as peft does, without a card."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def rate(step: int, total: int) -> float:
    """Linear warm-up over a few steps, then linear decay to zero after the last."""
    warm_up = min(WARM_UP_STEPS, max(total - 1, 0))
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    return max(0.0, (total - step) / max(1, total - warm_up))
