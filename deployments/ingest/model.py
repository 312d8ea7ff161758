"""The journey of a document, one type a stage: reference, raw bytes, extraction, passages, version.

It does no I/O.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where documents come from: a line of `content/sources.toml`, or a folder under `content/knowledge/`."""

    name: str  # part of every document's URI
    connector: str  # a key of `connectors.registry`
    options: tuple[tuple[str, Any], ...] = ()  # the connector's own, without secrets; sorted


@dataclass(frozen=True)
class Reference:
    """A document as a connector lists it, unread."""

    uri: str  # knowledge://<source>/<path>
    source: str
    key: str  # what its connector opens it by: a path, an object's key, a URL
    fingerprint: str  # another one whenever the content may be another
    size: int | None = None  # bytes, where they are known
    media_type: str = ""  # where the connector knows it
    place: str = ""  # where a person finds the document; the key where it is empty


@dataclass(frozen=True)
class Problem:
    """A document or source that can't be used, and what to do; earlier good versions stay in the knowledge base.

    `removal` is empty, or the digest by which a person accepts that documents of a source are gone. `fingerprint` is of
    the content that could not be used: it is tried again when there is another one.
    """

    uri: str
    message: str
    removal: str = ""
    fingerprint: str = ""


@dataclass(frozen=True)
class RawDocument:
    """A document as it was opened; the hash is of the very bytes."""

    reference: Reference
    content: bytes
    content_hash: str  # sha256 hex
    media_type: str = ""


@dataclass(frozen=True)
class Extraction:
    """What an extractor found in a document."""

    text: str  # lines end in \n; no NUL
    markdown: bool  # headings, lists, tables and code as Markdown has them; else plain text
    title: str  # "" where the document has none
    language: str = ""  # ISO 639-1, "" where it is not known
    author: str = ""
    dated: date | None = None  # when the document says that it was written
    pages: tuple[int, ...] = ()  # where each page begins in the text; none for what has no pages
    notes: tuple[str, ...] = ()  # what a reader should know: "read as Shift-JIS"


@dataclass(frozen=True)
class Passage:
    """A piece of an extraction that stands on its own; `text` is as it stands between `start` and `end`, trimmed."""

    text: str
    headings: tuple[str, ...]  # from the top, without the title
    start: int  # characters into the extraction's text
    end: int
    page: int | None = None  # from 1


@dataclass(frozen=True)
class Document:
    """One version of a document, as it is or will be in the knowledge base."""

    uri: str
    source: str
    title: str
    content_hash: str
    size: int  # bytes
    recipe: str  # how it was extracted and split: `recipe.describe_recipe`
    chunks: int
    fingerprint: str = ""
    media_type: str = ""
    language: str = ""
    author: str = ""
    dated: date | None = None
    place: str = ""
    notes: tuple[str, ...] = ()
