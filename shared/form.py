"""Whether a text has the form of the voice: opener, length, one closing question, hashtags.

It knows nothing of what the text says; facts are judged elsewhere.
"""

import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the voice asks this module whether its form can be kept
    from shared.voice import Voice

_HASHTAG = re.compile(r"#\w+")
QUESTION_MARKS = "?؟？"
"""Those of Arabic and Chinese type too."""


@dataclass(frozen=True, slots=True)
class FormScore:
    """One flag per rule, and a line for each rule that the text breaks."""

    opener: bool
    length: bool
    closing_question: bool
    hashtags: bool
    words: int
    problems: tuple[str, ...]

    @property
    def score(self) -> float:
        """Share of the rules that hold, 0..1."""
        checks = (self.opener, self.length, self.closing_question, self.hashtags)
        return sum(checks) / len(checks)


def form_score(text: str, voice: "Voice") -> FormScore:
    """Check a post against the voice; the words counted are those above the hashtag line."""
    body, tags = _split_hashtags(text)
    words = len(body.split())
    problems: list[str] = []

    opener = body.startswith(voice.opener)
    if not opener:
        problems.append(f"does not begin with {voice.opener!r}")

    length = voice.min_words <= words <= voice.max_words
    if not length:
        problems.append(f"has {words} words, not {voice.min_words} to {voice.max_words}")

    questions = sum(body.count(mark) for mark in QUESTION_MARKS)
    closing_question = questions == 1 and body.endswith(tuple(QUESTION_MARKS))
    if not closing_question:
        problems.append(
            f"has {questions} question marks; exactly one must end the last sentence before the hashtags"
        )

    signature = {tag.casefold() for tag in voice.hashtags}
    distinct = {tag.casefold() for tag in tags}
    hashtags = (
        voice.format.min_hashtags <= len(tags) <= voice.format.max_hashtags
        and len(distinct) == len(tags)
        and bool(distinct & signature)
        and "#" not in body
    )
    if not hashtags:
        problems.append(
            f"must end with a line of {voice.format.min_hashtags} to {voice.format.max_hashtags} different hashtags,"
            f" one of them {' or '.join(voice.hashtags)}, and have none elsewhere"
        )
    return FormScore(opener, length, closing_question, hashtags, words, tuple(problems))


def compose_example(voice: "Voice") -> str:
    """The shortest post of this form: the opener, as many words as must be, a question mark, all signature hashtags.

    Where this breaks a rule of the voice, every post that a model or a person could write does.
    """
    opening = voice.opener.split()
    filler = ["word"] * (voice.min_words - len(opening))
    body = " ".join([voice.opener, *filler]) + "?"
    known = {tag.casefold() for tag in voice.hashtags}
    others = (tag for number in count(1) if (tag := f"#Tag{number}").casefold() not in known)
    missing = voice.format.min_hashtags - len(voice.hashtags)
    tags = [*voice.hashtags, *(next(others) for _ in range(missing))]
    return f"{body}\n\n{' '.join(tags)}"


def _split_hashtags(text: str) -> tuple[str, list[str]]:
    """The text above its last line, and the hashtags of that line; no hashtags when the last line has other words."""
    body, _, last = text.strip().rpartition("\n")
    tags = last.split()
    if tags and all(_HASHTAG.fullmatch(tag) for tag in tags):
        return body.strip(), tags
    return text.strip(), []
