"""The form rule, one broken rule at a time."""

import pytest

from shared.form import form_score
from shared.voice import Voice

GOOD = """Field note: a hook of some words.

One fact in plain words, told without hurry, so that the whole post has the length that the voice asks
for and not a single word more than a reader would want to read.

Would you have known?

#FieldNotes #Airflow"""


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice.model_validate(
        {
            "name": "Field Notes",
            "speaker": "an engineer",
            "description": "calm",
            "opener": "Field note:",
            "min_words": 40,
            "max_words": 75,
            "hashtags": ["#FieldNotes"],
            "format": {"rules": "Short."},
            "picture": {"style": "a card"},
            "budget": {"max_training_cost": 1.0, "price_per_million_tokens": 3.0},
            "topics": {"suggested": ["Assets"]},
        }
    )


def test_a_good_post_keeps_every_rule(voice: Voice) -> None:
    score = form_score(GOOD, voice)
    assert score.problems == ()
    assert score.score == 1.0
    assert score.words == 45


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("Field note:", "A note:", "opener"),
        (" told without hurry, so that the whole post has the length that the voice asks", "", "length"),
        ("told", "told " * 40, "length"),
        ("known?", "known.", "closing_question"),
        ("some words.", "some words?", "closing_question"),
        ("known?", "known? Tell us.", "closing_question"),
        ("#FieldNotes #Airflow", "#FieldNotes", "hashtags"),
        ("#FieldNotes", "#Notes", "hashtags"),
        ("#Airflow", "#fieldnotes", "hashtags"),
        ("#Airflow", "#A #B #C", "hashtags"),
        ("One fact", "One #fact", "hashtags"),
    ],
)
def test_each_broken_rule_costs_a_quarter(voice: Voice, old: str, new: str, broken: str) -> None:
    assert old in GOOD
    score = form_score(GOOD.replace(old, new, 1), voice)
    assert getattr(score, broken) is False
    assert score.score == 0.75
    assert len(score.problems) == 1


@pytest.mark.parametrize("mark", ["؟", "？"])
def test_other_scripts_have_their_own_question_mark(voice: Voice, mark: str) -> None:
    assert form_score(GOOD.replace("?", mark), voice).problems == ()
    assert not form_score(GOOD.replace("words.", f"words{mark}"), voice).closing_question


def test_an_empty_text_scores_nothing(voice: Voice) -> None:
    assert form_score("", voice).score == 0.0
