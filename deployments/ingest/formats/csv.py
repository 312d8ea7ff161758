"""Tables as text: comma, semicolon, tab or bar between their cells."""

import csv
from io import StringIO
from itertools import islice
from typing import Final

from deployments.ingest.formats.decoding import decode_text
from deployments.ingest.formats.extraction import (
    MAX_CHARACTERS,
    build_extraction,
    normalize_text,
    refuse_damaged,
)
from deployments.ingest.formats.port import Extractor
from deployments.ingest.formats.tables import MAX_ROWS, render_table
from deployments.ingest.model import Extraction

csv.field_size_limit(MAX_CHARACTERS)  # a cell may be as long as a document
_DELIMITERS: Final = ",;\t|"
_LOOKED_AT: Final = 20  # lines


class CsvExtractor(Extractor):
    """One Markdown table; its first row names the columns."""

    name = "csv"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        text, notes = decode_text(content)
        text = normalize_text(text)
        with refuse_damaged("a table"):
            rows = list(islice(csv.reader(StringIO(text), delimiter=_find_delimiter(text)), MAX_ROWS + 1))
        if len(rows) > MAX_ROWS:
            notes = (*notes, f"the first {MAX_ROWS:,} rows were read")
        return build_extraction(render_table(rows[:MAX_ROWS]), markdown=True, notes=notes)


def _find_delimiter(text: str) -> str:
    """The one that is in most of the first lines, and most often; a comma where none is.

    The standard library's guess takes quadratic time for some texts.
    """
    lines = [line for line in text[:20_000].split("\n")[:_LOOKED_AT] if line.strip()]
    return max(
        _DELIMITERS, key=lambda d: (sum(d in line for line in lines), sum(line.count(d) for line in lines))
    )
