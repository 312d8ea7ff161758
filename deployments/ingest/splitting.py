"""Splits a document's text into chunks that stand on their own: by heading, then by size.

It does no I/O and knows no store.
"""

import re
from dataclasses import dataclass

CHUNK_CHARACTERS = 500
OVERLAP_CHARACTERS = 50


@dataclass(frozen=True)
class Section:
    """A chunk before it has an id."""

    heading: str
    text: str


def find_title(text: str, fallback: str) -> str:
    """The first Markdown heading, else the first line, else the fallback; at most 120 characters."""
    for line in text.splitlines():
        if line.strip():
            return line.lstrip("# ").strip()[:120] or fallback
    return fallback


def split_text(text: str, *, markdown: bool) -> list[Section]:
    """Chunks of at most CHUNK_CHARACTERS, in order; headings are kept beside the text, not in it."""
    from langchain_text_splitters import MarkdownHeaderTextSplitter, RecursiveCharacterTextSplitter

    text = text.lstrip("\ufeff").replace("\r\n", "\n")
    by_size = RecursiveCharacterTextSplitter(chunk_size=CHUNK_CHARACTERS, chunk_overlap=OVERLAP_CHARACTERS)
    if not markdown:
        return [Section("", part) for part in by_size.split_text(text) if part.strip()]
    levels = [("#", "h1"), ("##", "h2"), ("###", "h3")]
    sections = []
    for part in MarkdownHeaderTextSplitter(levels, strip_headers=True).split_text(text):
        heading = " › ".join(part.metadata[key] for key in ("h2", "h3") if key in part.metadata)
        sections += [
            Section(heading, piece) for piece in by_size.split_text(part.page_content) if piece.strip()
        ]
    # A document of headings alone still says something.
    return sections or [
        Section("", part) for part in by_size.split_text(re.sub(r"^#+ *", "", text, flags=re.M))
    ]
