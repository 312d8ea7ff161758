"""Workbooks: each sheet a heading and a table."""

from collections.abc import Iterator
from datetime import date, datetime, time
from itertools import islice
from typing import Any, Final

import openpyxl

from deployments.ingest.formats.extraction import build_extraction, check_size
from deployments.ingest.formats.package import open_package
from deployments.ingest.formats.port import Extractor
from deployments.ingest.formats.tables import MAX_COLUMNS, MAX_ROWS, render_table
from deployments.ingest.model import Extraction

MAX_TAGS: Final = 20_000_000  # read as a stream
MAX_SHEETS: Final = 100
MAX_EMPTY: Final = (
    2_000_000  # rows looked at, with those that hold nothing: a sheet may say that it has a million
)


class XlsxExtractor(Extractor):
    """The values that were last calculated, as Markdown; the first rows of each sheet where there are too many."""

    name = "xlsx"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        notes: list[str] = []
        with open_package(content, "a workbook", markup=MAX_TAGS) as (file, properties):
            book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            parts: list[str] = []
            left = MAX_ROWS
            looks = iter(range(MAX_EMPTY))
            if len(book.worksheets) > MAX_SHEETS:
                notes.append(f"the first {MAX_SHEETS} sheets were read")
            for sheet in book.worksheets[:MAX_SHEETS]:
                rows = list(islice(_read_rows(sheet, looks), left + 1))
                table = render_table(rows[:left])
                parts.append(f"## {' '.join(sheet.title.split())}\n\n{table}" if table else "")
                check_size(sum(map(len, parts)))
                if len(rows) > left:
                    notes.append(f"the first {MAX_ROWS:,} rows were read, to sheet {sheet.title}")
                    break
                left -= len(rows)
            book.close()
            if next(looks, None) is None:
                notes.append(f"the first {MAX_EMPTY:,} rows were looked at")
        return build_extraction(
            "\n\n".join(filter(None, parts)),
            markdown=True,
            title=properties.title,
            author=properties.author,
            dated=properties.dated,
            notes=notes,
        )


def _read_rows(sheet: Any, looks: Iterator[int]) -> Iterator[list[str]]:
    """Those with a cell, for as many looks as there are."""
    sheet.reset_dimensions()  # what a sheet says of its size need not be true
    for _, row in zip(looks, sheet.iter_rows(max_col=MAX_COLUMNS, values_only=True), strict=False):
        if row.count(None) < len(row):
            yield [_show(value) for value in row]


def _show(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(" ", "minutes")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)
