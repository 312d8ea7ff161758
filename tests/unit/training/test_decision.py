"""Deciding: what is promoted, what is not, and what is said of it, to the last digit."""

import math
from dataclasses import astuple

import pytest

from deployments.training import decision as rule
from deployments.training.decision import LEVEL, Decision, decide, level_of, sign_flip_p, smallest_p

GAINS = [0.31, -0.22, 0.257, -0.131, 0.113, 0.053, 0.1777, 0.291, -0.0123, 0.087, 0.204, 0.333, -0.05]


def test_a_clear_gain_is_promoted() -> None:
    champion = [0.5, 0.4, 0.6, 0.5, 0.45, 0.55, 0.5, 0.4]
    decision = decide(champion, [score + gain for score, gain in zip(champion, [0.1, 0.2] * 4, strict=True)])
    assert decision.promote
    assert decision.low > 0
    assert decision.mean_difference == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("champion", "challenger", "reason"),
    [
        ([0.5] * 8, [0.5] * 8, "not better"),
        ([0.5] * 8, [0.4] * 8, "not better"),
        ([0.5] * 8, [0.9, 0.1, 0.9, 0.2, 0.8, 0.2, 0.9, 0.3], "chance"),
        ([0.5] * 8, [0.9] * 7 + [math.nan], "finite"),
        ([-math.inf] * 8, [0.9] * 8, "finite"),
        ([0.1] * 5, [0.9] * 5, "only 5 pairs"),
        ([], [], "only 0 pairs"),
    ],
)
def test_doubt_keeps_the_champion(champion: list[float], challenger: list[float], reason: str) -> None:
    decision = decide(champion, challenger)
    assert not decision.promote
    assert reason in decision.reason


def test_a_gain_that_the_bootstrap_took_for_shown_may_be_chance() -> None:
    """Its interval is too narrow on few pairs; the exact test counts 3 of 64 flips that do as well."""
    gains = [0.30, 0.20, 0.10, 0.25, 0.15, -0.05]
    decision = decide([0.0] * 6, gains)
    assert decision.low > 0
    assert decision.p_value == 2 / 64
    assert not decision.promote


def test_the_p_value_is_that_of_the_library() -> None:
    from scipy.stats import permutation_test

    for gains in ([0.3, -0.1, 0.2, 0.2, 0.5, 0.1, -0.2], [0.1] * 4 + [-0.1] * 3, [0.0] * 6, [-0.2] * 9):
        exact = permutation_test(
            (gains,), sum, permutation_type="samples", alternative="greater", vectorized=False
        )
        assert sign_flip_p(gains) == pytest.approx(exact.pvalue)


def test_many_pairs_are_judged_by_drawn_flips() -> None:
    pattern = [0.3, -0.2, 0.25, -0.1, 0.1, 0.05]
    exact, drawn = sign_flip_p(pattern * 3), sign_flip_p(pattern * 4)
    assert 0 < drawn < exact < 0.2
    assert sign_flip_p([0.1] * 60) == smallest_p(60)
    assert decide([0.0] * 60, [0.1] * 60).promote


def test_each_challenger_on_a_holdout_gets_a_smaller_share_of_the_level() -> None:
    levels = [level_of(number) for number in range(1, 2001)]
    assert levels[0] == LEVEL == 0.025
    assert levels == sorted(levels, reverse=True)
    assert sum(levels) < 2 * LEVEL
    gains = [0.3, 0.2, 0.1, 0.2, 0.3, 0.1, 0.2, -0.1]
    assert sign_flip_p(gains) == pytest.approx(4 / 256)
    assert decide([0.0] * 8, gains).promote
    second = decide([0.0] * 8, gains, number=2)
    assert not second.promote and "chance" in second.reason


def test_a_p_value_at_the_level_is_enough() -> None:
    """The third challenger gets 1/240: eight pairs at their best have 1/256."""
    assert decide([0.0] * 8, [0.1] * 8, number=3).promote
    used_up = decide([0.0] * 8, [0.1] * 8, number=4)
    assert not used_up.promote and "used up" in used_up.reason


def test_a_decision_is_the_same_every_time() -> None:
    champion, challenger = [0.1, 0.2, 0.3, 0.4, 0.5, 0.2], [0.2, 0.5, 0.2, 0.6, 0.7, 0.3]
    assert decide(champion, challenger) == decide(champion, challenger)


def test_scores_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="do not pair"):
        decide([0.1], [0.1, 0.2])


def test_a_decision_is_known_to_the_last_digit() -> None:
    """It stays what it was when somebody looks at it again: the flips and resamples that are drawn are the same."""
    told = "mean difference +0.1086, p 0.024 by sign flips, needed {} (challenger {} on this holdout)"
    rest = "95 % interval +0.0153 to +0.1968, 13 pairs"
    bounds = pytest.approx((0.01533769230769, 0.19678461538462), abs=1e-12)
    for number, promote, verdict, level in [
        (1, True, "the challenger is better", "0.025"),
        (2, False, "the gain may be chance", "0.0083"),
    ]:
        found = decide([0.0] * 13, GAINS, number)
        assert (found.promote, found.pairs, found.p_value) == (promote, 13, 200 / 2**13)
        assert found.level == pytest.approx(0.025 if number == 1 else 0.025 / 3)
        assert found.mean_difference == pytest.approx(sum(GAINS) / 13)
        assert (found.low, found.high) == bounds
        assert found.reason == f"{verdict}: {told.format(level, number)}, {rest}"
    assert sign_flip_p(GAINS * 2) == 217 / 100_000
    assert sign_flip_p([0.1, -0.2, 0.15] * 8) == 32_456 / 100_000


@pytest.mark.parametrize(
    ("gain", "number", "told"),
    [
        (0.0, 1, "the challenger is not better: mean difference +0.0000, p 1 by sign flips, needed 0.025"),
        (-0.5, 1, "the challenger is not better: mean difference -0.5000, p 1 by sign flips, needed 0.025"),
        (
            0.5, 3,
            "the holdout is used up: no gain could be shown on it any more, put new posts into examples/holdout: "
            "mean difference +0.5000, p 0.016 by sign flips, needed 0.0042",
        ),
    ],
)  # fmt: skip
def test_what_is_said_of_a_champion_that_stays(gain: float, number: int, told: str) -> None:
    found = decide([0.0] * 6, [gain] * 6, number)
    interval = f"95 % interval {gain:+.4f} to {gain:+.4f}, 6 pairs"
    assert found.reason == f"{told} (challenger {number} on this holdout), {interval}"
    assert (found.promote, found.mean_difference, found.low, found.high) == (False, gain, gain, gain)


def test_where_nothing_can_be_computed_only_pairs_and_level_are_told() -> None:
    for scores, number, reason in [
        ([0.9] * 5, 2, "only 5 pairs, at least 6 are needed"),
        ([0.9] * 7 + [math.nan], 2, "a score is not a finite number"),
    ]:
        unknown, pairs = math.nan, len(scores)
        expected = Decision(False, reason, unknown, unknown, unknown, pairs, unknown, level_of(number))
        assert astuple(decide([0.1] * pairs, scores, number)) == pytest.approx(astuple(expected), nan_ok=True)


def test_a_p_value_of_exactly_the_level_promotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.025 is no power of two, so no p-value of few pairs can meet it; a team may choose a level that is."""
    monkeypatch.setattr(rule, "LEVEL", 1 / 64)
    assert decide([0.0] * 6, [0.1] * 6).promote
    assert "may be chance" in decide([0.0] * 6, [0.1] * 5 + [-0.01]).reason  # six pairs could still show one


def test_up_to_twenty_pairs_every_flip_is_looked_at() -> None:
    for pairs, smallest in [(6, 1 / 64), (20, 2**-20), (21, 1 / 100_000)]:
        assert sign_flip_p([0.1] * pairs) == smallest_p(pairs) == smallest
