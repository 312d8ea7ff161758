"""What the LLM server is asked in its benchmark: prompts of the real shape, built of the content, and texts to embed.

It knows no server.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.examples import load_examples
from shared.llm.port import Decoding, Message
from shared.prompt import build_messages, choose_decoding
from shared.voice import load_voice

CONTENT: Final = Path("content")
ANSWER_TOKENS: Final = 90
_CHUNK: Final = 600
_ENDS: Final = {"0": -100.0, "2": -100.0}
"""The bundled model's tokens that end an answer: without them each has as many tokens as are asked for."""


@dataclass(frozen=True)
class Chunk:
    """A passage of the knowledge."""

    title: str
    text: str


def read_chunks(folder: Path = CONTENT / "knowledge") -> list[Chunk]:
    """The knowledge in passages of paragraphs."""
    chunks = []
    for path in sorted(folder.rglob("*.md")):
        paragraphs = [part.strip() for part in path.read_text().split("\n\n") if len(part.strip()) > 80]
        kept = ""
        for paragraph in paragraphs:
            if kept and len(kept) + len(paragraph) > _CHUNK:
                chunks.append(Chunk(path.stem, kept))
                kept = ""
            kept = f"{kept}\n{paragraph}".strip()
        if kept:
            chunks.append(Chunk(path.stem, kept))
    return chunks


def build_exam(turn: int = 0) -> tuple[list[list[Message]], Decoding]:
    """The holdout's prompts, each with two passages that share words with its topic, and how posts are drawn.

    Each turn takes other passages, so that no prompt has been read before.
    """
    voice, chunks = load_voice(CONTENT / "voice.toml"), read_chunks()
    examples, _ = load_examples(CONTENT / "examples" / "holdout")
    prompts = [
        build_messages(voice, one.topic, find_passages(one.topic, chunks)[2 * turn : 2 * turn + 2])
        for one in examples
    ]
    return prompts, choose_decoding(voice)


def build_prompts() -> Iterator[list[Message]]:
    """Prompts for single posts, each with passages that no other has, as long as there are any."""
    voice, chunks = load_voice(CONTENT / "voice.toml"), [c for c in read_chunks() if len(c.text) > 400]
    for place in itertools.count(step=2):
        pair = [chunks[(place + step) % len(chunks)] for step in (0, 1)]
        yield build_messages(voice, f"{pair[0].title}, part {place}", pair)


def build_training_set() -> str:
    """Examples as training sends them, one JSON object a line."""
    voice, chunks = load_voice(CONTENT / "voice.toml"), read_chunks()
    examples, _ = load_examples(CONTENT / "examples" / "train")
    lines = []
    for one in examples:
        prompt = build_messages(voice, one.topic, find_passages(one.topic, chunks)[:2])
        lines.append(json.dumps({"messages": [*prompt, {"role": "assistant", "content": one.text}]}))
    return "\n".join(lines) + "\n"


def find_passages(topic: str, chunks: Sequence[Chunk]) -> list[Chunk]:
    """All of them, first those that share most words with the topic."""
    words = set(re.findall(r"\w+", topic.lower()))
    shared = [len(words & set(re.findall(r"\w+", chunk.text.lower()))) for chunk in chunks]
    best = sorted(range(len(chunks)), key=lambda place: (-shared[place], place))
    return [chunks[place] for place in best]


def build_post(messages: Sequence[Message]) -> dict[str, object]:
    """A request for a post of exactly so many tokens, as a stream with its usage."""
    return {
        "messages": list(messages),
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "logit_bias": _ENDS,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def build_exam_post(messages: Sequence[Message], decoding: Decoding) -> dict[str, object]:
    """A request as the evaluation makes it."""
    return {
        "messages": list(messages),
        "max_tokens": decoding.max_tokens,
        "temperature": 0,
        "frequency_penalty": decoding.frequency_penalty,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
