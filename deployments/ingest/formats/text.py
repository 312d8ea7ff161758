"""Plain text in any encoding."""

import re
from typing import Final

from deployments.ingest.formats.decoding import decode_text
from deployments.ingest.formats.extraction import build_extraction, find_first_line, normalize_text
from deployments.ingest.formats.port import Extractor
from deployments.ingest.model import Extraction

_FOR_MACHINES: Final = re.compile(r"#!|.*://|commit [0-9a-f]{7,}")


class TextExtractor(Extractor):
    """The text as it stands; its first line with a word is the title, if it is for people."""

    name = "text"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        text, notes = decode_text(content)
        text = normalize_text(text)
        return build_extraction(text, markdown=False, title=_find_title(text), notes=notes)


def _find_title(text: str) -> str:
    line = find_first_line(text)
    return "" if _FOR_MACHINES.match(line) else line
