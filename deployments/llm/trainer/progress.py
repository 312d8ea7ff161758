"""What a training tells while it runs: an event a step, the table of its numbers, and when to save, validate and stop.

It knows no model; transformers calls it.
"""

import logging
import time
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from deployments.llm.durable_files import write_durably
from deployments.llm.fine_tuning.folder import METRICS_FILE
from deployments.llm.fine_tuning.store import append_event
from deployments.llm.trainer.metrics import Row, format_table, parse_table, round_row, stops_early

log = logging.getLogger(__name__)

SAVE_SECONDS: Final = 60.0
_REWARDS: Final = {"rewards/accuracies": "reward_accuracy", "rewards/margins": "reward_margin"}
"""What only dpo has, by the names that trl gives them."""


class Progress(TrainerCallback):
    """Follows one training of a job's folder. `validates`: whether there are examples held out."""

    def __init__(
        self,
        job_dir: Path,
        *,
        steps_per_epoch: int,
        total_steps: int,
        validates: bool,
        patience: int,
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        self._job_dir, self._validates, self._patience = job_dir, validates, patience
        self._steps_per_epoch, self._total_steps = steps_per_epoch, total_steps
        self._save_seconds, self._saved = save_seconds, time.monotonic()
        self._rewards: dict[str, float] = {}
        self.rows: list[Row] = []

    def resume(self, checkpoint: Path) -> None:
        """Goes on from the numbers that a checkpoint keeps. Raises OSError or ValueError."""
        self.rows = parse_table((checkpoint / METRICS_FILE).read_bytes())

    def write(self, folder: Path) -> None:
        """Leaves the table there."""
        write_durably(folder / METRICS_FILE, format_table(self.rows))

    @property
    def done(self) -> bool:
        """Whether nothing is left to train."""
        step = self.rows[-1].step if self.rows else 0
        return step >= self._total_steps or (
            self.epoch_of(step) is not None and stops_early(self.rows, self._patience)
        )

    def epoch_of(self, step: int) -> int | None:
        """Which epoch ends with the step, 1 for the first; None between two ends."""
        return None if step % self._steps_per_epoch else step // self._steps_per_epoch

    # --- what transformers calls, in this order ---
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        ends = self.epoch_of(state.global_step) is not None
        control.should_log = True
        control.should_evaluate = ends and self._validates
        control.should_save = ends or time.monotonic() - self._saved >= self._save_seconds
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        state.log_history.clear()  # the table has it
        if "loss" not in logs:
            return
        self.rows.append(
            round_row(Row(state.global_step, logs["loss"], logs.get("mean_token_accuracy", 0.0)))
        )
        self._rewards = {name: round(logs[key], 5) for key, name in _REWARDS.items() if key in logs}
        if not control.should_evaluate:
            self._tell()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **_: Any,
    ) -> None:
        self.rows[-1] = self.rows[-1].validated(
            metrics["eval_loss"], metrics.get("eval_mean_token_accuracy", 0.0)
        )
        self._tell()
        if stops_early(self.rows, self._patience):
            append_event(
                self._job_dir,
                f"Stopped early: {self._patience} epochs without a better validation loss",
                level="warn",
            )
            control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._saved = time.monotonic()

    def _tell(self) -> None:
        row = self.rows[-1]
        message = f"Step {row.step}/{self._total_steps}: training loss={row.train_loss:.2f}"
        if row.valid_loss is not None:
            message += f", validation loss={row.valid_loss:.2f}"
        log.info(message)
        numbers = {**row.numbers, **self._rewards, "total_steps": self._total_steps}
        append_event(self._job_dir, message, data=numbers)
