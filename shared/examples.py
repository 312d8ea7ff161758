"""Example posts on disk: one Markdown file each, the topic in front matter, the post below it.

It knows nothing of prompts, splitting into sets by content, or training; the folder says which set a file is in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

Split = Literal["train", "validation", "holdout"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

_FENCE = "---"
_KNOWN_KEYS = ("topic",)
_SHAPE = "start the file with '---', 'topic: your topic', '---' and put the post below"


@dataclass(frozen=True, slots=True)
class Example:
    """One post in the team's voice, and the topic that it was written for."""

    topic: str
    text: str
    path: Path
    split: Split


class ExampleError(ValueError):
    """One file can't be used as an example: where, why and what to do."""

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(path, line, message)
        self.path = path
        self.line = line
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def parse_example(text: str, path: Path) -> Example:
    """The example in a file's text; the nearest parent folder named like a split is its split.

    Raises `ExampleError` with the line (from 1) at fault.
    """
    split = _split_of(path)
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != _FENCE:
        raise ExampleError(path, 1, f"no front matter; {_SHAPE}")
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == _FENCE), None)
    if end is None:
        raise ExampleError(path, 1, "the front matter is never closed; add a line '---' below the topic")
    topic = _parse_topic(lines[1:end], path)
    post = "\n".join(line.rstrip() for line in lines[end + 1 :]).strip()
    if not post:
        raise ExampleError(path, end + 1, "the post is empty; write its text below the second '---'")
    if "\0" in post:
        raise ExampleError(path, end + 1, "the post holds NUL characters; save the file as plain UTF-8 text")
    return Example(topic=topic, text=post, path=path, split=split)


def load_examples(folder: Path) -> tuple[list[Example], list[ExampleError]]:
    """Every example below a folder (`examples/` or one split of it) in order of path, and an error per bad file.

    A missing or empty folder has no examples; hidden files are skipped.
    """
    examples: list[Example] = []
    errors: list[ExampleError] = []
    for path in _visible_files(folder):
        try:
            examples.append(parse_example(_read(path), path))
        except ExampleError as error:
            errors.append(error)
    return examples, errors


def _parse_topic(lines: list[str], path: Path) -> str:
    topic = ""
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            raise ExampleError(path, number, f"{line.strip()!r} is not 'key: value'; {_SHAPE}")
        if key not in _KNOWN_KEYS:
            raise ExampleError(
                path, number, f"unknown key {key!r}; remove it (known: {', '.join(_KNOWN_KEYS)})"
            )
        if topic:
            raise ExampleError(path, number, f"a second {key!r}; keep one")
        topic = _unquote(value)
        if not topic:
            raise ExampleError(path, number, "the topic is empty; say in a few words what the post is about")
    if not topic:
        raise ExampleError(path, 1, f"no topic; {_SHAPE}")
    return topic


def _unquote(value: str) -> str:
    """Front matter is often written by tools that quote strings: `topic: "x"`."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value


def _split_of(path: Path) -> Split:
    for parent in path.parents:
        for split in SPLITS:
            if parent.name == split:
                return split
    raise ExampleError(path, 1, f"lies in none of the folders {', '.join(SPLITS)}; move it into one")


def _visible_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _read(path: Path) -> str:
    if path.suffix.lower() != ".md":
        raise ExampleError(path, 1, "not a Markdown file; save the post as .md or move the file elsewhere")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ExampleError(
            path, 1, f"can't be read: {error.strerror}; check the file's permissions"
        ) from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ExampleError(
            path, line, f"not UTF-8 (byte {error.start}); save the file as UTF-8 text"
        ) from error
