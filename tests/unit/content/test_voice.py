"""Loading a voice file: good ones, and what each bad one says."""

import random
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.form import compose_example, form_score
from shared.voice import Voice, VoiceError, load_voice

MINIMAL = """
[voice]
name = "Field Notes"
speaker = "an engineer"
description = "calm"
opener = "Field note:"
min_words = 5
max_words = 20
hashtags = ["#FieldNotes"]
[format]
rules = "Short."
[picture]
style = "a card"
[budget]
max_training_cost = 1.0
price_per_million_tokens = 3.0
[topics]
suggested = ["Assets"]
"""

_TABLES = tomllib.loads(MINIMAL)
VOICE = {**_TABLES.pop("voice"), **_TABLES}


def write(folder: Path, text: str) -> Path:
    path = folder / "voice.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_fill_what_is_left_out(tmp_path: Path) -> None:
    voice = load_voice(write(tmp_path, MINIMAL))
    assert voice.name == "Field Notes"
    assert (voice.budget.n_epochs, voice.budget.currency, voice.retrieval.top_k) == (2, "USD", 2)
    assert voice.topics.suggested == ("Assets",)


def test_a_voice_is_frozen(tmp_path: Path) -> None:
    voice = load_voice(write(tmp_path, MINIMAL))
    with pytest.raises(ValidationError):
        voice.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('opener = "Field note:"', 'opener = " "', "[voice] opener: String should have at least 1 character"),
        ('name = "Field Notes"\n', "", "[voice] name: Field required"),
        ("max_words = 20", "max_words = 4", "[voice]: Value error, min_words 5 is above max_words 4"),
        (
            '["#FieldNotes"]',
            '["FieldNotes"]',
            "[voice] hashtags: Value error, 'FieldNotes' is not one hashtag",
        ),
        ('rules = "Short."', 'rules = "Short."\nmin_hashtags = 9', "[format]: Value error, min_hashtags 9"),
        (
            "max_training_cost = 1.0",
            'max_training_cost = "lots"',
            "[budget] max_training_cost: Input should be",
        ),
        ("max_training_cost = 1.0", "max_training_cost = nan", "[budget] max_training_cost: Input should be"),
        (
            "max_training_cost = 1.0",
            "max_training_cost = 1.0\nn_epoch = 3",
            "[budget] n_epoch: there is no such key; did you mean n_epochs?",
        ),
        ('suggested = ["Assets"]', "suggested = []", "[topics] suggested: Tuple should have at least 1 item"),
        ('[topics]\nsuggested = ["Assets"]', "", "[topics]: Field required"),
        ('"Field note:"', '"Field note?"', "[voice] opener: Value error, leave '?' out"),
        ('"Field note:"', '"هل تعلم؟"', "[voice] opener: Value error, leave '؟' out"),
        ('"Field note:"', '"#1 note:"', "[voice] opener: Value error, leave '#' out"),
        (
            '"Field note:"',
            f'"{"so " * 21}"',
            "[voice]: Value error, opener has 21 words, above max_words 20; shorten",
        ),
        (
            '["#FieldNotes"]',
            '["#A", "#B", "#C", "#D"]',
            "[voice]: Value error, hashtags names 4, above [format] max_hashtags 3; take",
        ),
        ('["#FieldNotes"]', '["#Notes", "#notes"]', "[voice] hashtags: Value error, one of them stands"),
        (
            'rules = "Short."',
            'rules = "Short."\nmin_hashtags = 0\nmax_hashtags = 0',
            "[format] max_hashtags: Input should be greater than or equal to 1",
        ),
        (
            'opener = "Field note:"',
            'opener = "Field note:"\nlanguage = "Simplified Chinese"',
            "[voice] language: Value error, 'Simplified Chinese' is written without spaces",
        ),
        (
            'opener = "Field note:"',
            'opener = "Field note:"\nlanguage = "日本語"',
            "[voice] language: Value error, '日本語' is written without spaces",
        ),
        ("[voice]\n", "", "description: stands in no table"),
        ("[format]", "[voice.format]", "[voice.format]: write this table as [format]"),
        ("[topics]", "[topics", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_key(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in MINIMAL
    path = write(tmp_path, MINIMAL.replace(old, new, 1))
    with pytest.raises(VoiceError) as caught:
        load_voice(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_each_voice_that_is_taken_can_be_kept() -> None:
    """Drawn voices, most of them odd: either one is refused, or the plainest post of its form has the form."""
    draw = random.Random(20)
    taken = 0
    for _ in range(3000):
        low, high = sorted((draw.randint(1, 12), draw.randint(1, 12)))
        tags = draw.sample(["#A", "#a", "#Tag1", "#tag2", "#Tag3", "#Ü_1"], draw.randint(1, 4))
        changes = {
            "opener": draw.choice(
                ["Note:", "Why?", "a b c", "What? Now:", "one\ntwo", "# x", "؟", "! ¿a", "-"]
            ),
            "min_words": low,
            "max_words": high,
            "hashtags": tags,
            "language": draw.choice(["English", "Deutsch", "Thai", "한국어", "العربية", "ไทย"]),
            "format": {
                "rules": "Short.",
                "min_hashtags": draw.randint(0, 4),
                "max_hashtags": draw.randint(0, 5),
            },
        }
        try:
            voice = Voice.model_validate({**VOICE, **changes})
        except ValidationError:
            continue
        taken += 1
        assert form_score(compose_example(voice), voice).problems == ()
        assert voice.language not in ("Thai", "ไทย")
    assert 50 < taken < 2950


@pytest.mark.parametrize("language", ["한국어", "Tiếng Việt", "English", "العربية", "हिन्दी"])
def test_a_language_with_spaces_is_taken(tmp_path: Path, language: str) -> None:
    text = MINIMAL.replace('opener = "Field note:"', f'opener = "Field note:"\nlanguage = "{language}"')
    assert load_voice(write(tmp_path, text)).language == language


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="no such file"):
        load_voice(tmp_path / "voice.toml")


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "voice.toml"
    path.write_bytes(MINIMAL.replace("calm", "gelöst").encode("latin-1"))
    with pytest.raises(VoiceError, match="not UTF-8"):
        load_voice(path)
