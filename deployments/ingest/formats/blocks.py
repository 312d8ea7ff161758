"""Where the headings and blocks of a Markdown text begin and end.

It knows no chunk and no document.
"""

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

HEADING_LEVELS: Final = 3  # deeper headings stay in the text
HEADING_CHARACTERS: Final = 120
MAX_LINES: Final = 250_000
"""A text of more is not parsed: each line may become a dozen objects."""

# Where blocks begin and end is all that is asked of it: what a line is, its beginning says.
_BLOCKS: Final = MarkdownIt("commonmark")
_BLOCKS.core.ruler.enableOnly(["normalize", "block"])
_INLINE: Final = MarkdownIt("commonmark")
_LINE_CHARACTERS: Final = 1_000
_ANCHOR: Final = re.compile(r"\s*\{[#:][^{}]{0,100}\}$")


@dataclass(frozen=True)
class Section:
    """What stands below one heading: the headings by level, and the span of each block in the text, end to end."""

    headings: dict[int, str]
    blocks: list[tuple[int, int]]


def parse_sections(text: str) -> list[Section]:
    """The sections of a text whose lines end in \\n, in order; the first has no heading. Linear in time."""
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        return [Section({}, list_paragraphs(text))]
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    starts[-1] = len(text)
    tokens = _BLOCKS.parse("\n".join(line[:_LINE_CHARACTERS] for line in lines))
    sections = [Section({}, [])]
    begins = [0]

    def close(end: int) -> None:
        spans = zip(begins, [*begins[1:], end], strict=True)
        sections[-1].blocks.extend((starts[first], starts[after]) for first, after in spans if first < after)

    for index, token in enumerate(tokens):
        if token.level or token.map is None:
            continue
        first, after = token.map
        if token.type != "heading_open" or (level := int(token.tag[1:])) > HEADING_LEVELS:
            # What no block accounts for, such as the definition of a link, stays with the block before it.
            begins.append(first)
            continue
        close(first)
        above = {key: name for key, name in sections[-1].headings.items() if key < level}
        sections.append(Section(above | {level: _render(tokens[index + 1])}, []))
        begins = [after]
    close(len(lines))
    return sections


def list_paragraphs(text: str) -> list[tuple[int, int]]:
    """The spans of a plain text's paragraphs, end to end."""
    begins = [0, *(gap.end() for gap in re.finditer(r"\n(?:[^\S\n]*\n)+", text))]
    return [span for span in zip(begins, [*begins[1:], len(text)], strict=True) if span[0] < span[1]]


def find_heading(text: str) -> str:
    """The first heading with a word, of any level up to HEADING_LEVELS, near the text's beginning; else ""."""
    sections = parse_sections(text[:50_000])
    names = (name for section in sections for name in section.headings.values())
    return next((name for name in names if any(map(str.isalnum, name))), "")


def is_table(lines: list[str]) -> bool:
    """Whether a block is a table: a line of column names, and below it one of dashes."""
    return (
        len(lines) > 2
        and "|" in lines[0]
        and "|" in lines[1]
        and "-" in lines[1]
        and not lines[1].strip(" \t|:-")
    )


def _render(inline: Token) -> str:
    """A heading as it reads, without the marks of emphasis, code and links."""
    content = " ".join(inline.content.split())[: HEADING_CHARACTERS * 5]
    if re.search(r"[*_`\[\]<>&\\]", content):
        children = _INLINE.parseInline(content)[0].children or []
        kept = (child.content for child in children if child.type in {"text", "code_inline", "image"})
        content = " ".join("".join(kept).split()) or content
    return _ANCHOR.sub("", content)[:HEADING_CHARACTERS].rstrip()
