"""The one prompt for training, evaluation and serving.

It knows neither model nor store: a voice, a topic and chunks go in, chat messages come out.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

from shared.llm.port import Message
from shared.voice import Voice

_SYSTEM: Final = (
    "You are {speaker}: {description}. Write a post in {language} of {min_words} to {max_words} words that begins with "
    '"{opener}". {rules} Always use {hashtags}. Use only facts from the context.'
)
_USER: Final = "Context:\n{context}\n\nTopic: {topic}"
_EXCERPT: Final = "[{number}] {title}\n{text}"
MAX_EXCERPT_CHARACTERS: Final = 600  # a long chunk would crowd the others out, and small models read slowly

PROMPT_VERSION: Final = "p" + hashlib.sha256("\0".join((_SYSTEM, _USER, _EXCERPT)).encode()).hexdigest()[:8]
"""Changes exactly when the wording of the prompt does; the voice's own words are part of the training set."""


class ContextChunk(Protocol):
    """What the prompt needs of a chunk; `shared.vectors.port.Chunk` has it."""

    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...


def build_messages(voice: Voice, topic: str, chunks: Sequence[ContextChunk]) -> list[Message]:
    """System and user message for a topic; the excerpts are numbered in the order given, from 1."""
    system = _SYSTEM.format(
        speaker=voice.speaker,
        description=voice.description,
        language=voice.language,
        min_words=voice.min_words,
        max_words=voice.max_words,
        opener=voice.opener,
        rules=voice.format.rules,
        hashtags=" ".join(voice.hashtags),
    )
    excerpts = [
        _EXCERPT.format(number=number, title=chunk.title, text=chunk.text[:MAX_EXCERPT_CHARACTERS])
        for number, chunk in enumerate(chunks, 1)
    ]
    user = _USER.format(context="\n\n".join(excerpts) or "(nothing found)", topic=topic.strip())
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def count_answer_tokens(voice: Voice) -> int:
    """How many tokens an answer may have: two a word, and room for the hashtags."""
    return voice.max_words * 2 + 40
