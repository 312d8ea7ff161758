"""Markdown, with what its front matter says of it."""

import re
import tomllib
from typing import Any, Final

import yaml

from deployments.ingest.formats.blocks import find_heading
from deployments.ingest.formats.decoding import decode_text
from deployments.ingest.formats.extraction import (
    build_extraction,
    find_first_line,
    has_word,
    normalize_text,
    parse_date,
)
from deployments.ingest.formats.port import Extractor
from deployments.ingest.model import Extraction

_FRONT_CHARACTERS: Final = 50_000  # the parsers need a second for so many
_FRONT_MATTER: Final = re.compile(
    r"\A(?P<fence>---|\+\+\+)[ \t]*\n(?P<data>.*?\n)??(?P=fence)[ \t]*(?:\n|\Z)", flags=re.S
)
_KEY: Final = re.compile(r"\s*[\w-]+[ \t]*[:=]")
_TITLE_LINE: Final = re.compile(r"^title[ \t]*[:=][ \t]*(?P<title>.+)$", flags=re.M)


class MarkdownExtractor(Extractor):
    """The text below the front matter. The title is the front matter's, else the first heading, else the first line."""

    name = "markdown"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        decoded, notes = decode_text(content)
        front, text = take_front_matter(normalize_text(decoded))
        title = _find(front, "title") or find_heading(text) or re.sub(r"^[#\s]+", "", find_first_line(text))
        if not has_word(text):
            text = title  # a document of front matter alone still says something
        return build_extraction(
            text,
            markdown=True,
            title=title,
            language=_find(front, "lang", "language"),
            author=_find(front, "author", "authors"),
            dated=parse_date(_find(front, "date", "published")),
            notes=notes,
        )


def take_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """What the front matter says, if there is any, and the text below it.

    YAML between `---` lines, or TOML between `+++` lines; a mistake in it costs no more than what it spoils. What
    names no key is text, such as a rule at the top.
    """
    found = _FRONT_MATTER.match(text[:_FRONT_CHARACTERS])
    if found is None:
        return {}, text
    data, below = found["data"] or "", text[found.end() :]
    try:
        values = tomllib.loads(data) if found["fence"] == "+++" else _load_yaml(data)
    except (yaml.YAMLError, ValueError, RecursionError):  # a number of too many digits is a ValueError alone
        if not _KEY.match(data):
            return {}, text
        line = _TITLE_LINE.search(data)
        return ({"title": line["title"].strip("\"' ")} if line else {}), below
    if not isinstance(values, dict):
        return {}, text if data.strip() else below
    return {str(key).lower(): value for key, value in values.items()}, below


def _load_yaml(data: str) -> Any:
    # This loader makes text of everything: `title: 2026` is a title, and no date can be wrong.
    return yaml.load(data, Loader=yaml.BaseLoader)  # noqa: S506


def _find(front: dict[str, Any], *keys: str) -> str:
    """The first of these that is said in words; names in a list are joined."""
    for key in keys:
        value = front.get(key)
        if isinstance(value, list) and key.startswith("author"):
            names = [item.get("name") if isinstance(item, dict) else item for item in value[:10]]
            value = ", ".join(name for name in names if isinstance(name, str))
        elif isinstance(value, dict | list) or value is None:
            continue
        if text := str(value).strip():
            return text
    return ""
