"""Whether a challenger takes the champion's place: an exact paired sign-flip test over the scores on one holdout.

It knows no model, registry or text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.025
"""How often the first challenger of a holdout may win although it is no better (one-sided)."""
MINIMUM_PAIRS = 6
"""Of n pairs that all speak for the challenger, p is 2^-n: 1/64 is within the level, 1/32 never is."""
EXACT_PAIRS = 20
"""Up to here every flip of signs is looked at, a million at the most; beyond, `DRAWN_FLIPS` are drawn."""
DRAWN_FLIPS = 99_999
CONFIDENCE = 0.95
RESAMPLES = 10_000
_SEED = 20_260_101


@dataclass(frozen=True, slots=True)
class Decision:
    """`mean_difference` is challenger minus rival; `low` and `high` bound it with 95 % confidence, for show.

    The challenger wins where `p_value` is at most `level`.
    """

    promote: bool
    reason: str
    mean_difference: float
    low: float
    high: float
    pairs: int
    p_value: float
    level: float


def level_of(number: int) -> float:
    """The level for the `number`-th challenger (from 1) on one holdout: 2 LEVEL / (number (number + 1)).

    The first gets LEVEL; all that will ever come together get twice that, however many they are and whatever they
    have in common (Bonferroni with falling shares).
    """
    return 2 * LEVEL / (number * (number + 1))


def smallest_p(pairs: int) -> float:
    """The p-value of pairs that all speak for the challenger: no evidence on so many pairs can be stronger."""
    return 2.0**-pairs if pairs <= EXACT_PAIRS else 1 / (DRAWN_FLIPS + 1)


def decide(rival_scores: Sequence[float], challenger_scores: Sequence[float], number: int = 1) -> Decision:
    """Promote only a challenger that is shown to be better: doubt, a tie, NaN or too few pairs keep the champion.

    The two sequences pair up by position; `number` counts the challengers judged on this holdout, this one included.
    ValueError where the lengths differ.
    """
    pairs, level = len(rival_scores), level_of(number)
    if pairs != len(challenger_scores):
        raise ValueError(f"{pairs} rival scores do not pair with {len(challenger_scores)} challenger scores")
    differences = [new - old for old, new in zip(rival_scores, challenger_scores, strict=True)]
    if pairs < MINIMUM_PAIRS:
        return _undecided(f"only {pairs} pairs, at least {MINIMUM_PAIRS} are needed", pairs, level)
    if not all(math.isfinite(difference) for difference in differences):
        return _undecided("a score is not a finite number", pairs, level)
    mean = math.fsum(differences) / pairs
    low, high = _bootstrap(differences)
    p_value = sign_flip_p(differences)
    promote = p_value <= level  # never where the mean is not above zero: p is at least a half there
    if promote:
        verdict = "the challenger is better"
    elif mean <= 0:
        verdict = "the challenger is not better"
    elif level < smallest_p(pairs):
        verdict = "the holdout is used up: no gain could be shown on it any more, put new posts into examples/holdout"
    else:
        verdict = "the gain may be chance"
    reason = (
        f"{verdict}: mean difference {mean:+.4f}, p {p_value:.2g} by sign flips, needed {level:.2g} "
        f"(challenger {number} on this holdout), 95 % interval {low:+.4f} to {high:+.4f}, {pairs} pairs"
    )
    return Decision(promote, reason, mean, low, high, pairs, p_value, level)


def sign_flip_p(differences: Sequence[float]) -> float:
    """How often a random flip of the differences' signs gives at least their sum: small where they are no chance."""
    import numpy

    observed = math.fsum(differences)
    tolerance = 1e-12 * math.fsum(
        abs(difference) for difference in differences
    )  # sums differ in their last digits
    if len(differences) > EXACT_PAIRS:
        from scipy.stats import permutation_test

        drawn = permutation_test(
            (numpy.asarray(differences),), numpy.sum, permutation_type="samples", alternative="greater",
            n_resamples=DRAWN_FLIPS, batch=1000, rng=numpy.random.default_rng(_SEED),
        )  # fmt: skip
        return float(drawn.pvalue)
    sums = numpy.zeros(1)
    for (
        difference
    ) in differences:  # all sums of the first k, then each with the next one added and taken away
        sums = numpy.concatenate([sums + difference, sums - difference])
    return float(numpy.mean(sums >= observed - tolerance))


def _undecided(reason: str, pairs: int, level: float) -> Decision:
    return Decision(False, reason, math.nan, math.nan, math.nan, pairs, math.nan, level)


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
