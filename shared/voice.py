"""The voice of the team as `content/voice.toml` describes it: who speaks, in which form, at what cost.

It knows no prompt wording and no model; `shared.form` checks a text against it.
"""

import re
import tomllib
import unicodedata
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from shared.form import QUESTION_MARKS, compose_example, form_score

NonEmpty = Annotated[str, Field(min_length=1)]
_SECTIONS = frozenset({"format", "picture", "budget", "retrieval", "topics"})
_HASHTAG = re.compile(r"#\w+")
_WITHOUT_SPACES = frozenset(
    {"burmese", "cantonese", "chinese", "japanese", "khmer", "lao", "mandarin", "myanmar", "thai", "tibetan"}
)
_SCRIPTS_WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "KHMER", "LAO", "MYANMAR", "THAI", "TIBETAN")


class VoiceError(ValueError):
    """The voice file can't be used; the message names the file, the key and what is expected."""


class _Section(BaseModel):
    # A misspelt key must not be ignored silently: the user would wonder why nothing changes.
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Format(_Section):
    """The form of a post in words (for the prompt) and how many hashtags it ends with."""

    rules: NonEmpty
    min_hashtags: int = Field(default=2, ge=0)
    max_hashtags: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "Format":
        if self.min_hashtags > self.max_hashtags:
            raise ValueError(f"min_hashtags {self.min_hashtags} is above max_hashtags {self.max_hashtags}")
        return self


class Picture(_Section):
    """The picture that goes with a post."""

    style: NonEmpty
    size: str = Field(default="1024x1024", pattern=r"^[1-9]\d*x[1-9]\d*$")


class Budget(_Section):
    """What one fine-tuning job may cost, and the settings that drive its price."""

    max_training_cost: float = Field(ge=0, allow_inf_nan=False)
    price_per_million_tokens: float = Field(ge=0, allow_inf_nan=False)
    currency: NonEmpty = "USD"
    n_epochs: int = Field(default=2, ge=1, le=50)
    learning_rate_multiplier: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    suffix: str = Field(default="ghostwriter", pattern=r"^[a-zA-Z0-9][a-zA-Z0-9-]{0,39}$")


class Retrieval(_Section):
    """How many chunks of knowledge a prompt carries."""

    top_k: int = Field(default=2, ge=1, le=20)


class Topics(_Section):
    """Topics that the writer's desk suggests; the first is that of the first post."""

    suggested: tuple[NonEmpty, ...] = Field(min_length=1)


class Voice(_Section):
    """Everything in `voice.toml`; the keys of its `[voice]` table are attributes of this model itself."""

    name: NonEmpty
    speaker: NonEmpty
    description: NonEmpty
    opener: NonEmpty
    min_words: int = Field(ge=1)
    max_words: int = Field(ge=1)
    hashtags: tuple[str, ...] = Field(min_length=1)
    language: NonEmpty = "English"
    format: Format
    picture: Picture
    budget: Budget
    retrieval: Retrieval = Retrieval()
    topics: Topics

    @field_validator("opener")
    @classmethod
    def _opens(cls, opener: str) -> str:
        for mark in (*QUESTION_MARKS, "#"):
            if mark in opener:
                place = (
                    "its last line has hashtags" if mark == "#" else "its one question is the last sentence"
                )
                raise ValueError(f"leave {mark!r} out: {place}, so no post could begin like this")
        return opener

    @field_validator("language")
    @classmethod
    def _has_spaces(cls, language: str) -> str:
        named = _WITHOUT_SPACES & set(re.findall(r"\w+", language.casefold()))
        if named or any(unicodedata.name(sign, "").startswith(_SCRIPTS_WITHOUT_SPACES) for sign in language):
            raise ValueError(
                f"{language!r} is written without spaces, and min_words and max_words count what stands between them; "
                "choose another language, or have shared/form.py count otherwise"
            )
        return language

    @field_validator("hashtags")
    @classmethod
    def _are_hashtags(cls, hashtags: tuple[str, ...]) -> tuple[str, ...]:
        for hashtag in hashtags:
            if not _HASHTAG.fullmatch(hashtag):
                raise ValueError(f"{hashtag!r} is not one hashtag; write it like '#FieldNotes'")
        if len({hashtag.casefold() for hashtag in hashtags}) < len(hashtags):
            raise ValueError("one of them stands there twice; a post's hashtags differ")
        return hashtags

    @model_validator(mode="after")
    def _ordered(self) -> "Voice":
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        words, tags, most = len(self.opener.split()), len(self.hashtags), self.format.max_hashtags
        if words > self.max_words:
            raise ValueError(f"opener has {words} words, above max_words {self.max_words}; shorten it")
        if tags > most:  # the prompt asks for all of them
            raise ValueError(
                f"hashtags names {tags}, above [format] max_hashtags {most}; take some out or raise it"
            )
        problems = form_score(compose_example(self), self).problems
        if problems:
            raise ValueError(f"no post can have this form, whatever it says: it {'; it '.join(problems)}")
        return self


def load_voice(path: Path) -> Voice:
    """The voice in the file; raises `VoiceError` naming file and key when anything is missing or wrong."""
    try:
        tables = tomllib.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise VoiceError(f"{path}: no such file; copy the bundled voice.toml there and change it") from None
    except OSError as error:
        raise VoiceError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VoiceError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise VoiceError(f"{path}: not valid TOML: {error}") from error
    stray = sorted(key for key, value in tables.items() if not isinstance(value, dict))
    if stray:
        raise VoiceError(f"{path}: {stray[0]}: stands in no table; move it under [voice] or another one")
    voice_table = tables.pop("voice", None)
    if voice_table is None:
        raise VoiceError(f"{path}: [voice]: this table is missing; add it with name, speaker and opener")
    misplaced = sorted(voice_table.keys() & _SECTIONS)
    if misplaced:
        raise VoiceError(f"{path}: [voice.{misplaced[0]}]: write this table as [{misplaced[0]}]")
    try:
        return Voice.model_validate({**voice_table, **tables})
    except ValidationError as error:
        problems = "; ".join(
            _describe(
                item["loc"], "there is no such key" if item["type"] == "extra_forbidden" else item["msg"]
            )
            for item in error.errors()
        )
        raise VoiceError(f"{path}: {problems}") from None


def _list_keys(table: str) -> list[str]:
    if table == "voice":
        return sorted(Voice.model_fields.keys() - _SECTIONS)
    section = Voice.model_fields[table].annotation
    return list(section.model_fields) if isinstance(section, type) and issubclass(section, BaseModel) else []


def _describe(location: tuple[int | str, ...], message: str) -> str:
    first = str(location[0]) if location else ""
    table, keys = (first, location[1:]) if first in _SECTIONS else ("voice", location)
    key = ".".join(str(part) for part in keys)
    if message == "there is no such key" and (near := get_close_matches(key, _list_keys(table), n=1)):
        message = f"there is no such key; did you mean {near[0]}?"
    return f"[{table}] {key}: {message}" if key else f"[{table}]: {message}"
