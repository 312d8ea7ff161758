"""The one prompt for training, evaluation and serving.

It knows neither model nor store: a voice, a topic and chunks go in, chat messages come out.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final, Protocol

from shared.llm.port import Decoding, Message
from shared.voice import Voice

_SYSTEM: Final = "You are {speaker}: {description}. You write short posts in {language}. {rules}"
_USER: Final = (
    "Facts:\n{context}\n\nTopic: {topic}\n\n"
    'Write the post in {min_words} to {max_words} words. Begin with "{opener}" and end with {hashtags}.'
)
_EXCERPT: Final = "{title}: {text}"
MAX_EXCERPT_CHARACTERS: Final = 600  # a long chunk would crowd the others out, and small models read slowly

_FREQUENCY_PENALTY: Final = 0.3  # without it a small model says its last sentence again and again

PROMPT_VERSION: Final = (
    "p" + hashlib.sha256(f"{_SYSTEM}\0{_USER}\0{_EXCERPT}\0{_FREQUENCY_PENALTY}".encode()).hexdigest()[:8]
)
"""Changes exactly when the wording or the decoding does; the voice's own words are part of the training set."""


class ContextChunk(Protocol):
    """What the prompt needs of a chunk; `shared.vectors.port.Chunk` has it."""

    @property
    def title(self) -> str: ...
    @property
    def text(self) -> str: ...


def build_messages(voice: Voice, topic: str, chunks: Sequence[ContextChunk]) -> list[Message]:
    """System and user message for a topic; the excerpts stand in the order given."""
    system = _SYSTEM.format(
        speaker=voice.speaker,
        description=voice.description,
        language=voice.language,
        rules=voice.format.rules,
    )
    excerpts = [
        _EXCERPT.format(title=chunk.title, text=chunk.text[:MAX_EXCERPT_CHARACTERS]) for chunk in chunks
    ]
    user = _USER.format(
        context="\n\n".join(excerpts) or "(nothing found)",
        topic=topic.strip(),
        min_words=voice.min_words,
        max_words=voice.max_words,
        opener=voice.opener,
        hashtags=" ".join(voice.hashtags),
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def read_topic(messages: Sequence[Message]) -> str:
    """The topic that a prompt was built for; empty where the messages aren't of `build_messages`."""
    topics = re.findall(r"^Topic: (.*)$", messages[-1]["content"], flags=re.MULTILINE)
    return topics[-1].strip() if topics else ""


def choose_decoding(voice: Voice) -> Decoding:
    """How a post is drawn, wherever it is: no chance, two tokens a word and room for the hashtags."""
    return Decoding(voice.max_words * 2 + 40, frequency_penalty=_FREQUENCY_PENALTY)
