"""Whether a challenger takes the champion's place: a paired bootstrap over the scores on one holdout.

It knows no model, registry or text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINIMUM_PAIRS = 5
CONFIDENCE = 0.95
RESAMPLES = 10_000
_SEED = 20_260_101


@dataclass(frozen=True, slots=True)
class Decision:
    """`mean_difference` is challenger minus champion; `low` and `high` bound it with 95 % confidence."""

    promote: bool
    reason: str
    mean_difference: float
    low: float
    high: float
    pairs: int


def decide(champion_scores: Sequence[float], challenger_scores: Sequence[float]) -> Decision:
    """Promote only a challenger that is shown to be better: doubt, a tie, NaN or too few pairs keep the champion.

    The two sequences pair up by position. ValueError where their lengths differ.
    """
    pairs = len(champion_scores)
    if pairs != len(challenger_scores):
        raise ValueError(
            f"{pairs} champion scores do not pair with {len(challenger_scores)} challenger scores"
        )
    differences = [new - old for old, new in zip(champion_scores, challenger_scores, strict=True)]
    if pairs < MINIMUM_PAIRS:
        reason = f"only {pairs} pairs, at least {MINIMUM_PAIRS} are needed"
        return Decision(False, reason, math.nan, math.nan, math.nan, pairs)
    if not all(math.isfinite(difference) for difference in differences):
        return Decision(False, "a score is not a finite number", math.nan, math.nan, math.nan, pairs)
    mean = math.fsum(differences) / pairs
    low, high = _bootstrap(differences)
    interval = f"mean difference {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, {pairs} pairs"
    if mean <= 0:
        return Decision(False, f"the challenger is not better: {interval}", mean, low, high, pairs)
    if low <= 0:
        return Decision(False, f"the gain may be chance: {interval}", mean, low, high, pairs)
    return Decision(True, f"the challenger is better: {interval}", mean, low, high, pairs)


def _bootstrap(differences: Sequence[float]) -> tuple[float, float]:
    import numpy
    from scipy.stats import bootstrap

    result = bootstrap(
        (numpy.asarray(differences),),
        numpy.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",  # BCa is undefined where all differences are alike
        rng=numpy.random.default_rng(_SEED),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
