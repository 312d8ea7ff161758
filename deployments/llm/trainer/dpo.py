"""Learns from preferences: trl's DPOTrainer, whose reference is the same model with its adapter switched off.

It is imported for such jobs alone: trl and datasets take seconds.
"""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from deployments.llm.fine_tuning.examples import Preference
from deployments.llm.trainer.data import Example, encode
from deployments.llm.trainer.durable import DurableTraining

Arguments = DPOConfig
Pair = tuple[Example, Example]
"""The better and the worse answer, each with the prompt."""


class PreferenceTrainer(DurableTraining, DPOTrainer):
    """Trains fresh adapters on pairs."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # it is tokenized as chat examples are

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        return dict(super().evaluate(*args, **kwargs))


def encode_pairs(tokenizer: Any, preferences: Sequence[Preference], limit: int) -> list[Pair]:
    """Pairs as tokens. Raises ValueError, with its number, for one with an answer that is too long."""
    return [
        (
            encode(tokenizer, [*one.prompt, *one.preferred], number, limit),
            encode(tokenizer, [*one.prompt, *one.worse], number, limit),
        )
        for number, one in enumerate(preferences, 1)
    ]


def build_dataset(pairs: Sequence[Pair]) -> Dataset:
    """The columns that trl makes itself of texts; only the last answer is compared."""
    rows = []
    for chosen, rejected in pairs:
        start = _answer_start(chosen)
        rows.append(
            {
                "prompt_ids": chosen.ids[:start],
                "chosen_ids": chosen.ids[start:],
                "rejected_ids": rejected.ids[_answer_start(rejected) :],
            }
        )
    return Dataset.from_list(rows)


def _answer_start(example: Example) -> int:
    return len(example.learned) - example.learned[::-1].index(False)
