"""Loading a voice file: good ones, and what each bad one says."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.voice import VoiceError, load_voice

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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VoiceError, match="no such file"):
        load_voice(tmp_path / "voice.toml")


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "voice.toml"
    path.write_bytes(MINIMAL.replace("calm", "gelöst").encode("latin-1"))
    with pytest.raises(VoiceError, match="not UTF-8"):
        load_voice(path)
