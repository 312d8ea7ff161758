"""The bundled content keeps its promises: enough, in one form, in one set each, with facts that can be found."""

import os
import re
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from shared.examples import Example, load_examples
from shared.form import form_score
from shared.voice import Voice, load_voice

CONTENT = Path(os.environ.get("GHOSTWRITER_CONTENT_DIR") or Path(__file__).parents[3] / "content")
GUIDES = sorted((CONTENT / "knowledge" / "guides").glob("*.md"))
NOTES = sorted((CONTENT / "knowledge" / "notes").glob("*.txt"))
EXAMPLES, ERRORS = load_examples(CONTENT / "examples")
KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# Chunks are about 500 characters; a longer paragraph would be cut in the middle of a thought.
MAX_PARAGRAPH = 600
MAX_NEAR_DUPLICATE = 0.3


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return set(zip(words, words[1:], words[2:], strict=False))


def jaccard(left: str, right: str) -> float:
    """Share of the two texts' distinct word trigrams that both have."""
    a, b = trigrams(left), trigrams(right)
    return len(a & b) / len(a | b) if a | b else 0.0


def content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.casefold()) if len(word) > 3}


def fact(example: Example) -> str:
    """The middle of a post: what it claims, without hook, question and hashtags."""
    return example.text.split("\n\n")[1]


@pytest.fixture(scope="module")
def voice() -> Voice:
    return load_voice(CONTENT / "voice.toml")


def test_there_is_enough() -> None:
    assert len(GUIDES) >= 12
    assert len(NOTES) >= 6
    counts = {split: sum(e.split == split for e in EXAMPLES) for split in ("train", "validation", "holdout")}
    assert counts["train"] >= 36
    assert counts["validation"] >= 8
    assert counts["holdout"] >= 20


def test_every_example_can_be_read() -> None:
    assert ERRORS == []


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_guide_has_a_title_sections_and_a_fair_length(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r"# \S.*\n\n## \S", text)
    assert text.count("\n## ") >= 4
    assert 400 <= len(text.split()) <= 1200
    for paragraph in text.split("\n\n"):
        assert len(paragraph) <= MAX_PARAGRAPH, paragraph


@pytest.mark.parametrize("path", NOTES, ids=lambda path: path.stem)
def test_a_note_has_three_to_six_lines(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    assert 3 <= len(lines) <= 6
    assert all(line.strip() for line in lines)


def test_file_names_are_kebab_case() -> None:
    paths = [*GUIDES, *NOTES, *(example.path for example in EXAMPLES)]
    assert [path.name for path in paths if not KEBAB.fullmatch(path.stem)] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.path.stem)
def test_an_example_has_the_form(example: Example, voice: Voice) -> None:
    assert form_score(example.text, voice).problems == ()


def test_topics_are_distinct() -> None:
    topics = [example.topic.casefold() for example in EXAMPLES]
    assert len(topics) == len(set(topics))


def test_no_two_examples_are_near_duplicates() -> None:
    alike = [
        (left.path.name, right.path.name)
        for left, right in combinations(EXAMPLES, 2)
        if jaccard(left.text, right.text) > MAX_NEAR_DUPLICATE
    ]
    assert alike == []


def test_a_light_rewrite_would_be_caught() -> None:
    text = EXAMPLES[0].text
    assert jaccard(text, text.replace("the", "this", 1)) > MAX_NEAR_DUPLICATE


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.path.stem)
def test_the_fact_of_an_example_stands_in_the_knowledge(example: Example) -> None:
    claimed = content_words(fact(example))
    paragraphs = [p for path in [*GUIDES, *NOTES] for p in path.read_text(encoding="utf-8").split("\n\n")]
    # Posts are in plain words, so not every word is the guide's; half of them in one or two paragraphs are.
    pairs = [*paragraphs, *("\n".join(pair) for pair in pairwise(paragraphs))]
    best = max(len(claimed & content_words(paragraph)) / len(claimed) for paragraph in pairs)
    assert best >= 0.5


def test_the_voice_leaves_room_in_a_small_prompt(voice: Voice) -> None:
    described = f"{voice.name} {voice.speaker} {voice.description} {voice.opener} {voice.format.rules}"
    # Under 90 tokens with the words around it: English runs at about 1.3 tokens a word.
    assert len(described.split()) <= 50
