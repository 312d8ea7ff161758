"""Office documents as ZIP packages: whether they are safe to open, and what their core properties say.

It knows nothing of what the parts of a package mean to its format.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from io import BytesIO
from typing import IO, Final

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring, iterparse

from deployments.ingest.formats.extraction import parse_date, refuse_damaged
from deployments.ingest.formats.port import UnreadableError

MAX_UNPACKED: Final = 200_000_000  # bytes of all parts
MAX_PARTS: Final = 10_000
_ENCRYPTED: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # an encrypted package is wrapped in the old format
_AT_ONCE: Final = 1_000_000  # bytes
_PURL: Final = "{http://purl.org/dc/elements/1.1/}"
_TERMS: Final = "{http://purl.org/dc/terms/}"


@dataclass(frozen=True)
class Properties:
    """What a document says of itself."""

    title: str = ""
    author: str = ""
    language: str = ""
    dated: date | None = None


@contextmanager
def open_package(content: bytes, kind: str, *, markup: int) -> Iterator[tuple[BytesIO, Properties]]:
    """The package as a file for its format's library, and its properties. `kind` is such as "a Word document".

    Raises UnreadableError for what is no package, encrypted, larger unpacked than MAX_UNPACKED, or has parts that
    declare entities; and where the parts have more than `markup` tags together: each becomes an object or several.
    What the library raises inside becomes one too.
    """
    if not content:
        raise UnreadableError("it is empty")
    if content.startswith(_ENCRYPTED):
        raise UnreadableError(
            "it is protected by a password, or in the old Office format: save it without a password in today's format"
        )
    with refuse_damaged(kind):
        with zipfile.ZipFile(BytesIO(content)) as package:
            properties = _check_parts(package, kind, markup)
        yield BytesIO(content), properties


def _check_parts(package: zipfile.ZipFile, kind: str, markup: int) -> Properties:
    """Unpack each part once, without keeping it."""
    parts = package.infolist()
    if "[Content_Types].xml" not in package.namelist():
        raise UnreadableError(f"it is a ZIP archive, but not {kind}")
    if len(parts) > MAX_PARTS:
        raise UnreadableError(f"it has more than {MAX_PARTS:,} parts: it is no document")
    unpacked = tags = 0
    properties = Properties()
    for part in parts:
        declared = part.file_size
        # What a package says of a part's size need not be true, and a library would believe it.
        part.file_size = MAX_UNPACKED + 2 * _AT_ONCE
        is_markup = part.filename.lower().endswith((".xml", ".rels", ".vml"))
        size = 0
        with package.open(part) as file:
            while piece := file.read(_AT_ONCE):
                size += len(piece)
                tags += piece.count(b"<") if is_markup else 0
                if unpacked + size > MAX_UNPACKED or size > declared or tags > markup:
                    raise UnreadableError(
                        f"it is too large unpacked (more than {MAX_UNPACKED:,} bytes or {markup:,} tags): split it"
                    )
        unpacked += size
        part.file_size = declared
        if is_markup and size:
            with package.open(part) as file:
                _refuse_entities(file)
        if part.filename == "docProps/core.xml" and size < _AT_ONCE:
            properties = _read_properties(package.read(part))
    return properties


def _refuse_entities(file: IO[bytes]) -> None:
    try:
        # Declarations come before the first element; nothing after it is read here.
        next(iter(iterparse(file, events=("start",), forbid_dtd=True)))
    except DefusedXmlException as error:
        raise UnreadableError("it declares entities, which no Office program does: it is not read") from error


def _read_properties(core: bytes) -> Properties:
    root = fromstring(core, forbid_dtd=True)

    def find(*names: str) -> str:
        return next((text.strip() for name in names if (text := root.findtext(name, ""))), "")

    return Properties(
        title=find(f"{_PURL}title"),
        author=find(f"{_PURL}creator"),
        language=find(f"{_PURL}language"),
        dated=parse_date(find(f"{_TERMS}modified", f"{_TERMS}created")),
    )
