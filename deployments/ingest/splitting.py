"""Splits an extraction's text into passages that stand on their own: by heading, then by block, then by size.

It does no I/O and knows no format and no store.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Final

from deployments.ingest.formats.blocks import HEADING_CHARACTERS, is_table, list_paragraphs, parse_sections
from deployments.ingest.model import Extraction, Passage

SPLITTING_VERSION: Final = 2
"""A higher one when the same text gives other passages."""
CHUNK_CHARACTERS: Final = 500
OVERLAP_CHARACTERS: Final = 50

_BLANK_LINES: Final = re.compile(r"(?:[^\S\n]*\n)+")


def split(extraction: Extraction) -> list[Passage]:
    """Passages of at most CHUNK_CHARACTERS, in order, each with a word in it; headings are beside the text, not in it.

    A passage's text is `extraction.text[start:end]`, indentation included. A block (a paragraph, a list, code, a table)
    that fits a passage is never cut. A longer table is cut between its rows; since a passage is what stands in the
    text, the names of its columns go with its further pieces as their last heading. The page is that of the first
    character.
    """
    text, title = extraction.text, extraction.title
    passages: list[Passage] = []
    if extraction.markdown:
        for section in parse_sections(text):
            headings = tuple(name for name in section.headings.values() if name and name != title)
            passages += _pack(text, section.blocks, headings)
    else:
        passages += _pack(text, list_paragraphs(text), ())
    if not passages:  # a document of headings alone still says something
        passages += _cut_by_size(text, *_trim(text, 0, len(text)), ())
    pages = extraction.pages
    found = (p if not pages else replace(p, page=max(1, bisect_right(pages, p.start))) for p in passages)
    return [passage for passage in found if any(map(str.isalnum, passage.text))]


def _pack(text: str, blocks: list[tuple[int, int]], headings: tuple[str, ...]) -> Iterator[Passage]:
    """As many blocks as fit a passage, as they stand; one that fits none is cut."""
    packed: tuple[int, int] | None = None
    for block in blocks:
        start, end = _trim(text, *block)
        if start == end:
            continue
        if packed and end - packed[0] <= CHUNK_CHARACTERS:
            packed = packed[0], end
            continue
        if packed:
            yield from _cut(text, *packed, headings)
        packed = start, end
    if packed:
        yield from _cut(text, *packed, headings)


def _cut(text: str, start: int, end: int, headings: tuple[str, ...]) -> Iterator[Passage]:
    """One passage where it fits, else a table's rows, else pieces by size."""
    if end - start <= CHUNK_CHARACTERS:
        yield Passage(text[start:end], headings, start, end)
    elif is_table(text[start : start + 100_000].split("\n", 3)):
        yield from _cut_table(text, start, end, headings)
    else:
        yield from _cut_by_size(text, start, end, headings)


def _cut_table(text: str, start: int, end: int, headings: tuple[str, ...]) -> Iterator[Passage]:
    ends = [start + found.end() for found in re.finditer(r"[^\n]*\n|[^\n]+\Z", text[start:end])]
    rows = [(start, ends[1]), *pairwise(ends[1:])]  # the first is the head
    names = " ".join(text[start : ends[0]].strip(" |\n\t").split())[:HEADING_CHARACTERS].rstrip()
    for number, passage in enumerate(_pack_rows(text, rows, headings)):
        yield passage if number == 0 else replace(passage, headings=(*headings, names))


def _pack_rows(text: str, rows: list[tuple[int, int]], headings: tuple[str, ...]) -> Iterator[Passage]:
    packed = rows[0]
    for row in rows[1:]:
        if row[1] - packed[0] <= CHUNK_CHARACTERS + 1:  # the last line's end is trimmed
            packed = packed[0], row[1]
            continue
        yield from _cut_by_size(text, *_trim(text, *packed), headings)
        packed = row
    yield from _cut_by_size(text, *_trim(text, *packed), headings)


def _cut_by_size(text: str, start: int, end: int, headings: tuple[str, ...]) -> Iterator[Passage]:
    if end - start <= CHUNK_CHARACTERS:
        if start < end:
            yield Passage(text[start:end], headings, start, end)
        return
    # Half a second of imports: not for a document whose blocks all fit.
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    by_size = RecursiveCharacterTextSplitter(
        chunk_size=CHUNK_CHARACTERS,
        chunk_overlap=OVERLAP_CHARACTERS,
        strip_whitespace=False,
        add_start_index=True,
    )
    for piece in by_size.create_documents([text[start:end]]):
        first = start + piece.metadata["start_index"]
        trimmed = _trim(text, first, first + len(piece.page_content))
        if trimmed[0] < trimmed[1]:
            yield Passage(text[slice(*trimmed)], headings, *trimmed)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Without blank lines around it and without blanks at its end: the indentation of its first line counts."""
    end = start + len(text[start:end].rstrip())
    blank = _BLANK_LINES.match(text, start, end)
    return (blank.end() if blank else start), end
