"""Turns example posts and their context into the chat lines of a frozen training set.

It knows no store, ledger or provider: examples, context and a voice go in, bytes and a digest come out.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.examples import SPLITS, Example, Split
from shared.json_lines import format_row
from shared.llm.port import Message
from shared.prompt import build_messages
from shared.voice import Voice

NEAR_DUPLICATE = 0.6
"""Share of common three-word runs (Jaccard) from which two posts count as the same."""
_SHINGLE = 3


@dataclass(frozen=True, slots=True)
class ContextItem:
    """A chunk as it was pinned for an example."""

    chunk_id: str
    uri: str
    content_hash: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the examples that a person has to mend."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class BuiltSet:
    """The files of a training set, JSON lines in UTF-8, and the digest over all of them."""

    digest: str
    files: Mapping[Split, bytes]


def digest_example(topic: str, text: str) -> str:
    """The digest (sha256 hex) under which an example's context is pinned."""
    return hashlib.sha256(f"{topic}\0{text}".encode()).hexdigest()


def build_training_set(
    examples: Sequence[Example], contexts: Mapping[str, Sequence[ContextItem]], voice: Voice
) -> BuiltSet:
    """One chat example a line, in order of path, with the prompt that serving uses; `contexts` by example digest."""
    files: dict[Split, bytes] = {}
    for split in SPLITS:
        chosen = sorted((e for e in examples if e.split == split), key=lambda e: e.path.as_posix())
        lines = [_build_line(e, contexts[digest_example(e.topic, e.text)], voice) for e in chosen]
        files[split] = "".join(line + "\n" for line in lines).encode()
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(f"{split}\0{len(files[split])}\0".encode() + files[split])
    return BuiltSet(digest.hexdigest(), files)


def count_splits(examples: Sequence[Example]) -> dict[str, int]:
    """How many examples each split has."""
    return {split: sum(e.split == split for e in examples) for split in SPLITS}


def find_near_duplicates(examples: Sequence[Example]) -> list[Problem]:
    """A problem for each pair of posts in different splits that say nearly the same: the exam would be known before."""
    shingles = [frozenset(_shingles(e.text)) for e in examples]
    holders: dict[str, list[int]] = {}
    problems = []
    for index, example in enumerate(examples):
        common: dict[int, int] = {}
        for shingle in shingles[index]:
            for other in holders.setdefault(shingle, []):
                common[other] = common.get(other, 0) + 1
            holders[shingle].append(index)
        for other, count in sorted(common.items()):
            union = len(shingles[index]) + len(shingles[other]) - count
            if examples[other].split != example.split and count / union >= NEAR_DUPLICATE:
                twin = examples[other].path.as_posix()
                message = f"nearly the same post as {twin} in another set; change or remove one of the two"
                problems.append(Problem(example.path.as_posix(), 1, message))
    return problems


def build_conversation(example: Example, context: Sequence[ContextItem], voice: Voice) -> list[Message]:
    """The prompt that serving uses, and the post as the answer."""
    return [
        *build_messages(voice, example.topic, context),
        {"role": "assistant", "content": example.text},
    ]


def find_too_long(
    examples: Sequence[Example], tokens: Sequence[int], prompts: Mapping[Path, int], room: int, limit: int
) -> list[Problem]:
    """A problem for each example that the model can't take whole, and for each holdout prompt that leaves no `room`.

    `tokens` are those of the examples with their prompts, `prompts` those of the holdout's prompts alone.
    """
    problems = []
    for example, count in zip(examples, tokens, strict=True):
        prompt = prompts.get(example.path, 0)
        if count > limit:
            message = f"{count} tokens with its prompt, but the model takes {limit}"
        elif prompt + room > limit:
            message = (
                f"its prompt has {prompt} tokens and a post may have {room}, but the model takes {limit}"
            )
        else:
            continue
        advice = "shorten it, or raise the model's limit (docs/adapting.md)"
        problems.append(Problem(example.path.as_posix(), 1, f"{message}; {advice}"))
    return problems


def _build_line(example: Example, context: Sequence[ContextItem], voice: Voice) -> str:
    return format_row({"messages": build_conversation(example, context, voice)})


def _shingles(text: str) -> Iterator[str]:
    words = re.findall(r"\w+", text.casefold())
    for start in range(max(1, len(words) - _SHINGLE + 1)):
        yield " ".join(words[start : start + _SHINGLE])
