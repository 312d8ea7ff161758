"""Word documents: their text by style, as headings, lists and tables."""

from typing import Any, Final

import mammoth
from bs4 import BeautifulSoup

from deployments.ingest.formats.extraction import build_extraction
from deployments.ingest.formats.html import convert_to_markdown, parse_html
from deployments.ingest.formats.package import open_package
from deployments.ingest.formats.port import Extractor
from deployments.ingest.model import Extraction

MAX_TAGS: Final = 1_500_000  # about a thousand pages of plain text, and a minute
_STYLES: Final = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"


class DocxExtractor(Extractor):
    """What a reader sees, as Markdown; title, author and date of its properties."""

    name = "docx"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        with open_package(content, "a Word document", markup=MAX_TAGS) as (file, properties):
            markup = mammoth.convert_to_html(
                file,
                style_map=_STYLES,
                include_embedded_style_map=False,
                convert_image=_leave_out,
                external_file_access=False,
            ).value
            page = parse_html(markup)
            title = properties.title or _find_title(page)
            text = convert_to_markdown(page)
        return build_extraction(
            text,
            markdown=True,
            title=title,
            language=properties.language,
            author=properties.author,
            dated=properties.dated,
        )


def _leave_out(image: Any) -> list[Any]:
    return []


def _find_title(page: BeautifulSoup) -> str:
    heading = page.find(["h1", "h2", "h3"])
    return heading.get_text(" ") if heading is not None else ""
