"""What every extractor ends with: a text that the rest of ingest can rely on, and what is known of the document.

It knows no format.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Final

from deployments.ingest.formats.language import detect_language, normalize_language
from deployments.ingest.formats.port import UnreadableError
from deployments.ingest.model import Extraction

MAX_CHARACTERS: Final = 20_000_000
TITLE_CHARACTERS: Final = 120
AUTHOR_CHARACTERS: Final = 200
BETWEEN_PAGES: Final = "\n\n"

_LINE_ENDS: Final = re.compile("\r\n|[\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
_NO_TEXT: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufeff\ufffe\uffff]")
_HALVES: Final = re.compile("[\ud800-\udfff]")
_DATE: Final = re.compile(r"(?<!\d)(\d{4})([-/.:]?)(\d{2})\2(\d{2})(?=\D|$|\d{6}(?!\d))")


def build_extraction(
    text: str | Sequence[str],
    *,
    markdown: bool,
    title: str = "",
    language: str = "",
    author: str = "",
    dated: date | None = None,
    notes: Sequence[str] = (),
) -> Extraction:
    """The extraction of a text, or of the texts of pages, in order.

    Lines end in \\n; control characters and halves of characters are gone, title and author are single lines of bounded
    length. The language is detected where the document names none. Raises UnreadableError where there is no word, or
    too much text.
    """
    pages: list[int] = []
    if not isinstance(text, str):
        texts = [normalize_text(page) for page in text]
        position = 0
        for page in texts:
            pages.append(position)
            position += len(page) + len(BETWEEN_PAGES)
        text = BETWEEN_PAGES.join(texts)
    else:
        text = normalize_text(text)
    check_size(len(text))
    if not has_word(text):
        raise UnreadableError("it holds no text")
    return Extraction(
        text=text,
        markdown=markdown,
        title=shorten(title, TITLE_CHARACTERS),
        language=normalize_language(language) or detect_language(text),
        author=shorten(author, AUTHOR_CHARACTERS),
        dated=dated,
        pages=tuple(pages),
        notes=tuple(dict.fromkeys(notes)),
    )


def normalize_text(text: str) -> str:
    """With \\n alone between lines, and without what is no text."""
    return _HALVES.sub("\ufffd", _NO_TEXT.sub("", _LINE_ENDS.sub("\n", text)))


def check_size(characters: int) -> None:
    """Raise UnreadableError where a document's text is too long."""
    if characters > MAX_CHARACTERS:
        raise UnreadableError(f"it holds more than {MAX_CHARACTERS:,} characters of text: split it")


def has_word(text: str) -> bool:
    """Whether there is a letter or a digit."""
    return any(map(str.isalnum, text))


def shorten(text: str, characters: int) -> str:
    """On one line, with single blanks, and so many characters at most; "" for what has no word."""
    line = " ".join(normalize_text(text[: characters * 20]).split())[:characters].rstrip()
    return line if has_word(line) else ""


def find_first_line(text: str) -> str:
    """The first line with a word in it; "" where there is none."""
    return next((line.strip() for line in text[:20_000].split("\n") if has_word(line)), "")


def parse_date(value: str) -> date | None:
    """The day in a date such as 2026-11-24T09:00:00Z, 2026/11/24 or 20261124093000; None for what is none."""
    found = _DATE.search(value[:100])
    try:
        return date(*map(int, found.group(1, 3, 4))) if found else None
    except ValueError:
        return None


@contextmanager
def refuse_damaged(kind: str) -> Iterator[None]:
    """Say UnreadableError for whatever a library raises over bytes that are no such `kind`, e.g. "a Word document"."""
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(
            f"it can't be read as {kind} ({type(error).__name__}): it may be damaged; save it again"
        ) from error
