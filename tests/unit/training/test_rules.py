"""Pricing, checking, deciding, scoring, reading results: rules without I/O."""

import base64
import math
from dataclasses import replace

import pytest

from deployments.training.checking import check_proposal
from deployments.training.decision import LEVEL, decide, level_of, sign_flip_p, smallest_p
from deployments.training.pricing import count_tokens, price_job
from deployments.training.proposals import Order, Proposal
from deployments.training.results import Point, ResultError, decode_results, draw_curve, parse_results
from deployments.training.scoring import score_post
from deployments.training.waiting import Silence
from shared.voice import Voice

COUNTS = {"train": 32, "validation": 8, "holdout": 8}
ORDER = Order("digest", "base", 2, 1.0, "notes")
PROPOSAL = Proposal(ORDER, "train.jsonl", COUNTS, (), 3.0, 1.0, "USD", "run")


def test_tokens_are_counted_per_message_and_example() -> None:
    line = '{"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c d e"}]}'
    assert count_tokens([line, line], lambda text: text.split()) == 2 * (3 + (3 + 1 + 2) + (3 + 1 + 3))
    assert count_tokens([], lambda text: text.split()) == 0


def test_the_price_is_tokens_times_epochs() -> None:
    assert price_job(500_000, 2, 3.0) == pytest.approx(3.0)


def test_a_job_within_budget_goes() -> None:
    verdict = check_proposal(PROPOSAL, 100_000)
    assert verdict.outcome == "fine_tune"
    assert verdict.price == pytest.approx(0.6)


def test_a_job_at_the_budget_goes_and_above_it_does_not() -> None:
    proposal = replace(PROPOSAL, budget=0.6)
    assert check_proposal(proposal, 100_000).outcome == "fine_tune"
    verdict = check_proposal(proposal, 100_001)
    assert verdict.outcome == "over_budget"
    assert "budget 0.6000 USD" in verdict.reasons[0]


def test_the_epochs_priced_are_the_epochs_ordered() -> None:
    more = replace(PROPOSAL, order=replace(ORDER, n_epochs=50))
    assert check_proposal(more, 10_000).price == pytest.approx(25 * check_proposal(PROPOSAL, 10_000).price)


@pytest.mark.parametrize(("posts", "outcome"), [(5, "no_holdout_examples"), (6, "fine_tune")])
def test_a_holdout_on_which_nothing_can_be_shown_buys_nothing(posts: int, outcome: str) -> None:
    assert check_proposal(replace(PROPOSAL, counts={**COUNTS, "holdout": posts}), 1).outcome == outcome
    assert decide([0.1] * posts, [0.9] * posts).promote == (outcome == "fine_tune")


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


def test_form_and_likeness_make_the_score(voice: Voice) -> None:
    reference = "Field note: a hook in some words.\n\nWhat do you say?\n\n#FieldNotes #Airflow"
    assert score_post(reference, reference, voice) == pytest.approx(1.0)
    formless = score_post("What do you say? A hook in some words.", reference, voice)
    empty = score_post("", reference, voice)
    assert 0 <= empty < formless < 1


def test_results_in_csv_and_in_base64() -> None:
    text = "step,train_loss,valid_loss,note\n1,2.5,,x\n2,1.5,nan,y\n"
    expected = [Point("train_loss", 1, 2.5), Point("train_loss", 2, 1.5)]
    for content in (text.encode(), base64.b64encode(text.encode())):
        assert parse_results(decode_results(content)) == expected


def test_odd_results_are_refused() -> None:
    for content in (b"\xff\xfe", b"<html>"):
        with pytest.raises(ResultError):
            decode_results(content)
    for text in ("", "epoch,loss\n1,2\n", "step,loss\none,2\n"):
        with pytest.raises(ResultError):
            parse_results(text)


def test_the_curve_is_a_picture() -> None:
    points = [Point("train_loss", 1, 2.0), Point("train_loss", 2, 1.0), Point("valid_loss", 2, 1.2)]
    assert draw_curve(points, "job").startswith(b"\x89PNG")
    assert draw_curve([], "job").startswith(b"\x89PNG")


def test_silence_is_borne_for_a_while() -> None:
    silence = Silence(patience=10)
    assert not silence.miss(100)
    assert not silence.miss(109)
    silence.hear()
    assert not silence.miss(111)
    assert silence.miss(121)
