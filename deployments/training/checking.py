"""Decides whether a proposed training set may be bought, before any money is spent.

It knows no provider, file or tokenizer.
"""

from dataclasses import dataclass
from typing import Literal

from deployments.training.decision import MINIMUM_PAIRS
from deployments.training.pricing import price_job
from deployments.training.proposals import Proposal

Outcome = Literal[
    "no_training_examples",
    "no_validation_examples",
    "no_holdout_examples",
    "bad_format",
    "over_budget",
    "fine_tune",
]
MINIMUM_HOLDOUT = MINIMUM_PAIRS
"""Fewer pairs can't show that a model is better, so the job would be paid for nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where to go, with the lines that tell a person why; `price` for the whole job."""

    outcome: Outcome
    reasons: tuple[str, ...]
    price: float = 0.0


def check_proposal(proposal: Proposal, tokens: int, *, job_exists: bool = False) -> Verdict:
    """`tokens` are those of one pass over the training examples; the epochs priced are the epochs ordered.

    A job that `job_exists` says is there costs nothing more: it is followed, whatever the price and the budget are now.
    """
    if proposal.problems:
        return Verdict("bad_format", tuple(str(problem) for problem in proposal.problems))
    if not proposal.counts["train"]:
        return Verdict("no_training_examples", ("examples/train is empty: put example posts there",))
    if not proposal.counts["validation"]:
        return Verdict("no_validation_examples", ("examples/validation is empty: put example posts there",))
    if proposal.counts["holdout"] < MINIMUM_HOLDOUT or proposal.order is None:
        found = proposal.counts["holdout"]
        reason = f"examples/holdout has {found} posts, at least {MINIMUM_HOLDOUT} are needed to judge a model"
        return Verdict("no_holdout_examples", (reason,))
    epochs, currency = proposal.order.n_epochs, proposal.currency
    price = price_job(tokens, epochs, proposal.price_per_million)
    sum_up = (
        f"{tokens} tokens x {epochs} epochs x {proposal.price_per_million:g} {currency} per million"
        f" = {price:.4f} {currency}, budget {proposal.budget:.4f} {currency}"
    )
    if job_exists:
        return Verdict("fine_tune", (f"{sum_up}; the job is there already and is followed",), price)
    if price > proposal.budget:
        advice = "use fewer examples or epochs, or raise max_training_cost in voice.toml"
        return Verdict("over_budget", (sum_up, advice), price)
    return Verdict("fine_tune", (sum_up,), price)
