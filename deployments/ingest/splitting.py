"""Splits a document's text into chunks that stand on their own: by heading, then by block, then by size.

It does no I/O and knows no store.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml
from markdown_it import MarkdownIt

CHUNK_CHARACTERS = 500
OVERLAP_CHARACTERS = 50
TITLE_CHARACTERS = 120
HEADING_LEVELS = 3  # deeper headings stay in the text

_FRONT_MATTER = re.compile(
    r"\A(?P<fence>---|\+\+\+)[ \t]*\n(?P<data>.*?\n)??(?P=fence)[ \t]*(?:\n|\Z)", flags=re.S
)
_KEY = re.compile(r"\s*[\w-]+[ \t]*[:=]")
_TITLE_LINE = re.compile(r"^title[ \t]*[:=][ \t]*(?P<title>.+)$", flags=re.M)
# Where blocks begin and end is all that is asked of it.
_BLOCKS = MarkdownIt("commonmark")
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])


@dataclass(frozen=True)
class Section:
    """A chunk before it has an id."""

    heading: str
    text: str


@dataclass(frozen=True)
class _Part:
    """What stands below one heading: the headings by level, and the lines of each block."""

    headings: dict[int, str]
    blocks: list[list[str]]


def is_markdown(uri: str) -> bool:
    """Whether a document is Markdown; the others are plain text."""
    return not uri.lower().endswith(".txt")


def find_title(text: str, fallback: str, *, markdown: bool = True) -> str:
    """The front matter's title, else the first heading, else the first line with a word, else the fallback.

    At most TITLE_CHARACTERS. Plain text has neither front matter nor headings.
    """
    text = _normalize(text)
    titles: list[str] = []
    if markdown:
        front, text = _take_front_matter(text)
        titles.append(front)
        titles += [heading for part in _parse(text) for heading in part.headings.values()]
    lines = (re.sub(r"^[#\s]+", "", line) if markdown else line for line in text.splitlines())
    titles += [line for line in lines if any(map(str.isalnum, line))][:1]
    return next((" ".join(title.split())[:TITLE_CHARACTERS] for title in titles if title.strip()), fallback)


def split_text(text: str, *, markdown: bool) -> list[Section]:
    """Chunks of at most CHUNK_CHARACTERS, in order; headings are kept beside the text, not in it.

    A block of Markdown (a paragraph, a list, code) that fits a chunk is never cut, and each chunk is as it stands in
    the document, indentation included.
    """
    text = _normalize(text)
    if not markdown:
        return [Section("", piece) for piece in _split_by_size(text)]
    title = find_title(text, "")
    body = _take_front_matter(text)[1]
    sections = []
    for part in _parse(body):
        heading = " › ".join(name for name in part.headings.values() if name and name != title)
        sections += [Section(heading, piece) for piece in _pack(part.blocks)]
    if sections:
        return sections
    # A document of headings or front matter alone still says something.
    return [Section("", piece) for piece in _split_by_size(re.sub(r"^#+ *", "", body, flags=re.M) or title)]


def _normalize(text: str) -> str:
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _take_front_matter(text: str) -> tuple[str, str]:
    """The title in the front matter, if any, and the text below it.

    YAML between `---` lines, or TOML between `+++` lines; a mistake in it costs no more than what it spoils. What
    names no key is text, such as a rule at the top.
    """
    found = _FRONT_MATTER.match(text)
    if found is None:
        return "", text
    data, below = found["data"] or "", text[found.end() :]
    try:
        values = tomllib.loads(data) if found["fence"] == "+++" else _load_yaml(data)
    except (yaml.YAMLError, ValueError, RecursionError):  # a number of too many digits is a ValueError alone
        if not _KEY.match(data):
            return "", text
        line = _TITLE_LINE.search(data)
        return line["title"].strip("\"' ") if line else "", below
    if not isinstance(values, dict):
        return "", text if data.strip() else below
    title = values.get("title")
    return title if isinstance(title, str) else "", below


def _load_yaml(data: str) -> Any:
    # This loader makes text of everything: `title: 2026` is a title, and no date can be wrong.
    return yaml.load(data, Loader=yaml.BaseLoader)  # noqa: S506


def _parse(text: str) -> list[_Part]:
    lines = text.split("\n")
    tokens = _BLOCKS.parse(text)
    parts = [_Part({}, [])]
    starts = [0]

    def close(end: int) -> None:
        blocks = [lines[first:after] for first, after in pairwise([*starts, end])]
        parts[-1].blocks.extend(block for block in blocks if any(line.strip() for line in block))

    for index, token in enumerate(tokens):
        if token.level or token.map is None:
            continue
        first, after = token.map
        if token.type != "heading_open" or (level := int(token.tag[1:])) > HEADING_LEVELS:
            # What no block accounts for, such as the definition of a link, stays with the block before it.
            starts.append(first)
            continue
        close(first)
        above = {key: name for key, name in parts[-1].headings.items() if key < level}
        parts.append(_Part(above | {level: " ".join(tokens[index + 1].content.split())}, []))
        starts = [after]
    close(len(lines))
    return parts


def _pack(blocks: list[list[str]]) -> Iterator[str]:
    """As many blocks as fit a chunk, as they stand; a block that fits none is cut by size."""
    packed: list[str] = []
    for block in blocks:
        if len(_trim("\n".join([*packed, *block]))) <= CHUNK_CHARACTERS:
            packed += block
            continue
        yield from _split_by_size("\n".join(packed))
        packed = block
    yield from _split_by_size("\n".join(packed))


def _split_by_size(text: str) -> list[str]:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    by_size = RecursiveCharacterTextSplitter(
        chunk_size=CHUNK_CHARACTERS, chunk_overlap=OVERLAP_CHARACTERS, strip_whitespace=False
    )
    text = _trim(text)
    pieces = [text] if len(text) <= CHUNK_CHARACTERS else by_size.split_text(text)
    return [trimmed for piece in pieces if (trimmed := _trim(piece))]


def _trim(text: str) -> str:
    """Without blank lines around it and without blanks at its end: the indentation of its first line counts."""
    return re.sub(r"\A(?:[^\S\n]*\n)+", "", text).rstrip()
