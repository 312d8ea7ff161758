"""Which formats are read: adding one is a module and a line here.

Each is named by the class of its extractor; a module and its libraries are imported when a document of it is read.
"""

import mimetypes
import pkgutil
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Final

from deployments.ingest.formats.port import Extractor, UnreadableError

_HERE: Final = "deployments.ingest.formats"


@dataclass(frozen=True)
class Format:
    """A line of the table: what a document is called or declared as, and the class that reads it."""

    extractor: str
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]


_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
TEXT: Final = Format(
    f"{_HERE}.text:TextExtractor", (".txt", ".text", ".log", ".adoc", ".org", ".tex"), ("text/plain",)
)
PDF: Final = Format(f"{_HERE}.pdf:PdfExtractor", (".pdf",), ("application/pdf",))
HTML: Final = Format(
    f"{_HERE}.html:HtmlExtractor", (".html", ".htm", ".xhtml"), ("text/html", "application/xhtml+xml")
)
FORMATS: Final = (
    Format(f"{_HERE}.markdown:MarkdownExtractor", (".md", ".markdown"), ("text/markdown", "text/x-markdown")),
    TEXT,
    HTML,
    PDF,
    Format(f"{_HERE}.docx:DocxExtractor", (".docx",), (f"{_OFFICE}.wordprocessingml.document",)),
    Format(f"{_HERE}.pptx:PptxExtractor", (".pptx",), (f"{_OFFICE}.presentationml.presentation",)),
    Format(f"{_HERE}.xlsx:XlsxExtractor", (".xlsx",), (f"{_OFFICE}.spreadsheetml.sheet",)),
    Format(f"{_HERE}.csv:CsvExtractor", (".csv", ".tsv"), ("text/csv", "text/tab-separated-values")),
    Format(f"{_HERE}.rst:RstExtractor", (".rst", ".rest"), ("text/x-rst", "text/prs.fallenstein.rst")),
    Format(f"{_HERE}.ipynb:NotebookExtractor", (".ipynb",), ("application/x-ipynb+json",)),
    Format(f"{_HERE}.eml:EmailExtractor", (".eml",), ("message/rfc822",)),
)
SUFFIXES: Final = {suffix: form for form in FORMATS for suffix in form.suffixes}
MEDIA_TYPES: Final = {media_type: form for form in FORMATS for media_type in form.media_types}
_ADVICE: Final = {
    **dict.fromkeys((".doc", ".odt", ".rtf", ".pages"), "save it as .docx"),
    **dict.fromkeys((".xls", ".ods", ".numbers"), "save it as .xlsx"),
    **dict.fromkeys((".ppt", ".odp", ".key"), "save it as .pptx"),
    **dict.fromkeys((".zip", ".gz", ".bz2", ".xz", ".tar", ".tgz", ".7z"), "unpack it"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".gif", ".svg", ".tiff"), "text in pictures is not recognised"),
}
# Python's own table, not the machine's: the same name means the same everywhere.
_KNOWN_TYPES: Final = mimetypes.MimeTypes()


def find_extractor(name: str, media_type: str, content: bytes) -> Extractor:
    """What reads a document called `name` (the last part of its path) that was declared as `media_type` ("" if not).

    A declared type goes first, since a page may be called anything; then the suffix; then, for a name without a suffix
    that means something (`README`, `changelog.Debian`), the first bytes. Raises UnreadableError for a format that
    isn't read; the message says which are.
    """
    declared = media_type.partition(";")[0].strip().lower()
    suffix = PurePosixPath(name).suffix.lower()
    found = MEDIA_TYPES.get(declared)
    if found is None or found is TEXT:  # text/plain is said of much
        found = SUFFIXES.get(suffix) or found
    if found is None:
        if suffix in _ADVICE or _KNOWN_TYPES.guess_type(f"a{suffix}") != (None, None):
            raise UnreadableError(describe_refusal(suffix))
        found = _find_by_content(content)
    return _build(found.extractor)


def describe_refusal(suffix: str) -> str:
    """Why a suffix is not read, and what to do."""
    advice = f": {_ADVICE[suffix]}" if suffix in _ADVICE else ""
    return f"{suffix} is not read{advice}; what is: {', '.join(SUFFIXES)}"


def _find_by_content(content: bytes) -> Format:
    beginning = content[:1000].lstrip().lower()
    if beginning.startswith(b"%pdf-"):
        return PDF
    return HTML if beginning.startswith((b"<!doctype html", b"<html")) else TEXT


@cache
def _build(extractor: str) -> Extractor:
    made = pkgutil.resolve_name(extractor)()
    assert isinstance(made, Extractor)
    return made
