"""PDF: the text of its pages, as it stands in them."""

import re
from threading import Lock
from typing import Final

import pypdfium2
import pypdfium2.raw

from deployments.ingest.formats.extraction import (
    build_extraction,
    check_size,
    find_first_line,
    parse_date,
    refuse_damaged,
)
from deployments.ingest.formats.port import Extractor, UnreadableError
from deployments.ingest.model import Extraction

MAX_PAGES: Final = 5_000
_ONE_AT_ONCE: Final = Lock()  # the library holds global state
_BROKEN_WORD: Final = re.compile("[\ufffe\x02][\r\n]*")  # how the library shows a hyphen at the end of a line
_NO_TITLE: Final = re.compile(
    r"(?i)^(microsoft |untitled|document\d*$|$)|\.[a-z]{2,5}$"
)  # what programs put there


class PdfExtractor(Extractor):
    """Pages of plain text. The title is the document's own where it is one, else the first line."""

    name = "pdf"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`. Raises UnreadableError also for what needs a password, and for scans without text."""
        if not content:
            raise UnreadableError("it is empty")
        with _ONE_AT_ONCE, refuse_damaged("a PDF"):
            pages, metadata = _read(content)
        texts = [_BROKEN_WORD.sub("", page) for page in pages]
        if not any(map(str.isalnum, "".join(texts))):
            raise UnreadableError(
                "it holds no text, as a scan does: recognise its text (OCR) and save it again"
            )
        title = metadata.get("Title", "").strip()
        return build_extraction(
            texts,
            markdown=False,
            title=find_first_line(texts[0].replace("\r", "\n")) if _NO_TITLE.search(title) else title,
            author=metadata.get("Author", ""),
            dated=parse_date(metadata.get("CreationDate", "")),
        )


def _read(content: bytes) -> tuple[list[str], dict[str, str]]:
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise UnreadableError("it is protected by a password: save it without one") from error
        raise
    try:
        if len(document) > MAX_PAGES:
            raise UnreadableError(f"it has {len(document):,} pages, more than {MAX_PAGES:,}: split it")
        pages: list[str] = []
        characters = 0
        for number in range(len(document)):
            page = document[number]
            text = page.get_textpage()
            characters += text.count_chars()
            check_size(characters)
            pages.append(text.get_text_bounded())
            text.close()
            page.close()
        return pages, document.get_metadata_dict()
    finally:
        document.close()
