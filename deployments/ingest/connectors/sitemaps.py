"""What a sitemap (sitemaps.org), an index of sitemaps or a feed (RSS, Atom) lists.

It fetches nothing. Entities and external references in XML are refused, and so is what unpacks to too much.
"""

import calendar
import gzip
import io
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from xml.etree.ElementTree import ParseError

import feedparser
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

MAX_SITEMAP_BYTES: Final = 50_000_000
"""Unpacked, as the protocol has it."""
MAX_ENTRIES: Final = 50_000
MAX_DEPTH: Final = 20
_GZIP = b"\x1f\x8b"
_KINDS: Final = {"urlset": "pages", "sitemapindex": "index", "rss": "feed", "feed": "feed", "RDF": "feed"}


class SitemapError(ValueError):
    """It can't be read; the message says why."""


@dataclass(frozen=True)
class Entry:
    """An address, and when its content last changed as the list says; "" where it does not."""

    url: str
    changed: str


@dataclass(frozen=True)
class Sitemap:
    """A list of pages or of further lists, or neither ("other": a page of HTML, perhaps)."""

    kind: Literal["pages", "index", "feed", "other"]
    entries: tuple[Entry, ...] = ()


def read_sitemap(content: bytes, max_entries: int = MAX_ENTRIES) -> Sitemap:
    """What the bytes list; they may be gzipped. Raises SitemapError, also for more than `max_entries`."""
    content = _unzip(content)
    kind = _find_kind(content)
    if kind == "feed":
        return Sitemap("feed", _read_feed(content, max_entries))
    if kind in ("pages", "index"):
        return Sitemap(kind, _read_entries(content, max_entries))
    return Sitemap("other")


def _unzip(content: bytes) -> bytes:
    if not content.startswith(_GZIP):
        return content
    try:
        unpacked = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MAX_SITEMAP_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise SitemapError("it looks gzipped and is not, or ends early") from None
    if len(unpacked) > MAX_SITEMAP_BYTES:
        raise SitemapError(f"it has more than {MAX_SITEMAP_BYTES:,} bytes when it is unpacked")
    return unpacked


def _find_kind(content: bytes) -> Any:
    try:
        for _, element in _parse(content, ("start",)):
            return _KINDS.get(_get_name(element), "other")
    except ParseError:
        pass
    return "other"


def _read_entries(content: bytes, max_entries: int) -> tuple[Entry, ...]:
    found: list[Entry] = []
    entry: dict[str, str] = {}
    depth = 0
    try:
        for event, element in _parse(content, ("start", "end")):
            depth += 1 if event == "start" else -1
            if depth > MAX_DEPTH:
                raise SitemapError("its elements lie too deep in each other")
            if event == "start":
                continue
            name = _get_name(element)
            if name in ("loc", "lastmod") and depth == 2:
                entry[name] = (element.text or "").strip()
            elif depth == 1:  # a whole <url> or <sitemap>
                if url := entry.get("loc"):
                    found.append(Entry(url, entry.get("lastmod", "")))
                entry = {}
                if len(found) > max_entries:
                    raise SitemapError(f"it lists more than {max_entries:,} addresses")
                element.clear()
    except ParseError as error:
        raise SitemapError(f"it is no valid XML ({error})") from None
    return tuple(found)


def _read_feed(content: bytes, max_entries: int) -> tuple[Entry, ...]:
    # A stream: given bytes, feedparser would look for a file of that name first.
    feed = feedparser.parse(io.BytesIO(content), sanitize_html=False, resolve_relative_uris=False)
    if len(feed.entries) > max_entries:
        raise SitemapError(f"it lists more than {max_entries:,} addresses")
    return tuple(
        Entry(
            str(entry.link),
            _write_time(dict.get(entry, "updated_parsed") or dict.get(entry, "published_parsed")),
        )
        for entry in feed.entries
        if entry.get("link")
    )


def _write_time(parsed: Any) -> str:
    try:
        return datetime.fromtimestamp(calendar.timegm(parsed), UTC).isoformat() if parsed else ""
    except (TypeError, ValueError, OverflowError):
        return ""


def _parse(content: bytes, events: tuple[str, ...]) -> Any:
    try:
        yield from iterparse(io.BytesIO(content), events=events, forbid_dtd=False)
    except DefusedXmlException as error:
        raise SitemapError(
            f"it holds entities or references, which are not read ({type(error).__name__})"
        ) from None


def _get_name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]
