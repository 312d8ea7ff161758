"""Plain text in any encoding."""

from deployments.ingest.formats.decoding import decode_text
from deployments.ingest.formats.extraction import build_extraction, find_first_line, normalize_text
from deployments.ingest.formats.port import Extractor
from deployments.ingest.model import Extraction


class TextExtractor(Extractor):
    """The text as it stands; its first line with a word is the title."""

    name = "text"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        text, notes = decode_text(content)
        text = normalize_text(text)
        return build_extraction(text, markdown=False, title=find_first_line(text), notes=notes)
