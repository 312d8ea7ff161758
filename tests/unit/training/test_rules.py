"""Pricing, checking, scoring, reading results, bearing silence: rules without I/O."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from deployments.training.checking import Outcome, Verdict, check_proposal
from deployments.training.decision import decide
from deployments.training.preparation import Problem
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
    assert price_job(500_000, 2, 3.0) == 3.0


def test_a_job_at_the_budget_goes_and_above_it_does_not() -> None:
    assert check_proposal(PROPOSAL, 100_000) == Verdict(
        "fine_tune", ("100000 tokens x 2 epochs x 3 USD per million = 0.6000 USD, budget 1.0000 USD",), 0.6
    )
    proposal = replace(PROPOSAL, budget=0.6, currency="EUR")
    assert check_proposal(proposal, 100_000).outcome == "fine_tune"
    assert check_proposal(proposal, 100_001) == Verdict(
        "over_budget",
        (
            "100001 tokens x 2 epochs x 3 EUR per million = 0.6000 EUR, budget 0.6000 EUR",
            "use fewer examples or epochs, or raise max_training_cost in voice.toml",
        ),
        price_job(100_001, 2, 3.0),
    )


@pytest.mark.parametrize(
    ("change", "outcome", "told"),
    [
        ({"problems": (Problem("a.md", 2, "no topic"), Problem("b.md", 1, "empty"))}, "bad_format",
         ("a.md:2: no topic", "b.md:1: empty")),
        ({"counts": {**COUNTS, "train": 0}}, "no_training_examples",
         ("examples/train is empty: put example posts there",)),
        ({"counts": {**COUNTS, "validation": 0}}, "no_validation_examples",
         ("examples/validation is empty: put example posts there",)),
        ({"counts": {**COUNTS, "holdout": 5}}, "no_holdout_examples",
         ("examples/holdout has 5 posts, at least 6 are needed to judge a model",)),
        ({"order": None}, "no_holdout_examples",
         ("examples/holdout has 8 posts, at least 6 are needed to judge a model",)),
    ],
)  # fmt: skip
def test_what_keeps_a_job_from_being_bought_is_said(
    change: dict[str, Any], outcome: Outcome, told: tuple[str, ...]
) -> None:
    assert check_proposal(replace(PROPOSAL, **change), 100_000) == Verdict(outcome, told, 0.0)
    one_each = replace(PROPOSAL, counts={"train": 1, "validation": 1, "holdout": 6})
    assert check_proposal(one_each, 100_000).outcome == "fine_tune"


def test_the_epochs_priced_are_the_epochs_ordered() -> None:
    more = replace(PROPOSAL, order=replace(ORDER, n_epochs=50))
    assert check_proposal(more, 10_000).price == pytest.approx(25 * check_proposal(PROPOSAL, 10_000).price)


@pytest.mark.parametrize(("posts", "outcome"), [(5, "no_holdout_examples"), (6, "fine_tune")])
def test_a_holdout_on_which_nothing_can_be_shown_buys_nothing(posts: int, outcome: str) -> None:
    assert check_proposal(replace(PROPOSAL, counts={**COUNTS, "holdout": posts}), 1).outcome == outcome
    assert decide([0.1] * posts, [0.9] * posts).promote == (outcome == "fine_tune")


def test_form_and_likeness_make_half_of_the_score_each(voice: Voice) -> None:
    reference = "Field note: a hook in some words.\n\nWhat do you say?\n\n#FieldNotes #Airflow"
    assert score_post(reference, reference, voice) == pytest.approx(1.0)
    assert score_post(reference, "全く別の話", voice) == pytest.approx(0.5)
    other_opener = voice.model_copy(update={"opener": "Tip:"})
    assert score_post(reference, reference, other_opener) == pytest.approx(0.875)  # three rules of four
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
