"""The form rule, one broken rule at a time."""

import pytest

from shared.form import compose_example, form_score
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


def test_each_broken_rule_is_told_with_what_was_found(voice: Voice) -> None:
    strict = voice.model_copy(update={"hashtags": ("#FieldNotes", "#Tips")})
    found = form_score("Why? So? #now\n\n#Other and more", strict)
    assert (found.opener, found.length, found.closing_question, found.hashtags, found.words) == (
        False, False, False, False, 6,
    )  # fmt: skip
    assert found.problems == (
        "does not begin with 'Field note:'",
        "has 6 words, not 40 to 75",
        "has 2 question marks; exactly one must end the last sentence before the hashtags",
        "must end with a line of 2 to 3 different hashtags, one of them #FieldNotes or #Tips, and have none elsewhere",
    )


@pytest.mark.parametrize(("words", "right"), [(39, False), (40, True), (75, True), (76, False)])
def test_the_first_and_the_last_number_of_words_are_right(voice: Voice, words: int, right: bool) -> None:
    text = f"Field note: {' '.join(['so'] * (words - 3))} why?\n\n#FieldNotes #Airflow"
    found = form_score(text, voice)
    assert (found.words, found.length, found.opener) == (words, right, True)


@pytest.mark.parametrize(
    "tags", ["#FieldNotes", "#FieldNotes #a", "#FieldNotes #a #b", "#FieldNotes #a #b #c"]
)
@pytest.mark.parametrize("end", ["", "\n", "  \n\n"])
def test_the_last_line_alone_may_have_hashtags(voice: Voice, tags: str, end: str) -> None:
    number = len(tags.split())
    found = form_score(f"Field note: why?\n\n  {tags}{end}", voice)
    assert (found.hashtags, found.words, found.closing_question) == (2 <= number <= 3, 3, True)


def test_a_line_with_other_words_is_part_of_the_text(voice: Voice) -> None:
    found = form_score("  Field note: why?\n#FieldNotes #a b \n", voice)
    assert (found.opener, found.words, found.closing_question, found.hashtags) == (True, 6, False, False)
    alone = form_score("#FieldNotes #a", voice)
    assert (alone.words, alone.hashtags) == (0, True)


@pytest.mark.parametrize(
    ("hashtags", "min_hashtags", "tags"),
    [
        (["#FieldNotes"], 0, "#FieldNotes"),
        (["#FieldNotes"], 2, "#FieldNotes #Tag1"),
        (["#tag1", "#Tag3"], 4, "#tag1 #Tag3 #Tag2 #Tag4"),
    ],
)
def test_the_shortest_post_of_a_voice(
    voice: Voice, hashtags: list[str], min_hashtags: int, tags: str
) -> None:
    form = voice.format.model_copy(update={"min_hashtags": min_hashtags, "max_hashtags": 4})
    short = voice.model_copy(update={"min_words": 4, "hashtags": tuple(hashtags), "format": form})
    assert compose_example(short) == f"Field note: word word?\n\n{tags}"
    assert form_score(compose_example(short), short).problems == ()
    wordless = short.model_copy(update={"min_words": 1})
    assert compose_example(wordless) == f"Field note:?\n\n{tags}"
