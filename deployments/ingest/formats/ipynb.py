"""Notebooks: their text, their code and what it printed."""

import json
from collections.abc import Iterator
from typing import Any, Final

from deployments.ingest.formats.blocks import find_heading
from deployments.ingest.formats.decoding import decode_text
from deployments.ingest.formats.extraction import build_extraction, refuse_damaged
from deployments.ingest.formats.port import Extractor, UnreadableError
from deployments.ingest.model import Extraction

MAX_OUTPUT: Final = 2_000  # characters of what one cell printed


class NotebookExtractor(Extractor):
    """Cells in order, as Markdown; of outputs only text."""

    name = "ipynb"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        text, notes = decode_text(content)
        with refuse_damaged("a notebook"):
            book = json.loads(text)
            metadata = book.get("metadata") or {}
            cells = book["cells"] if "cells" in book else [c for s in book["worksheets"] for c in s["cells"]]
            if not isinstance(cells, list):
                raise UnreadableError("it holds no cells: it is no notebook")
            language = (metadata.get("language_info") or metadata.get("kernelspec") or {}).get("name", "")
            shown = "\n\n".join(part for cell in cells for part in _show(cell, str(language)))
            title = metadata.get("title") or find_heading(shown)
            authors = [str(author.get("name", "")) for author in metadata.get("authors") or []]
        return build_extraction(
            shown, markdown=True, title=str(title), author=", ".join(filter(None, authors)), notes=notes
        )


def _show(cell: dict[str, Any], language: str) -> Iterator[str]:
    source = _join(cell.get("source") or cell.get("input"))
    kind = cell.get("cell_type")
    if kind == "heading":  # before notebooks' fourth format
        yield f"{'#' * int(cell.get('level', 1))} {source}"
    elif kind != "code":
        yield source
    elif source.strip():
        yield _fence(source, language)
    for output in cell.get("outputs") or []:
        data = output.get("data") or output
        printed = _join(data.get("text/plain") or output.get("text"))
        if output.get("output_type") in {"error", "pyerr"}:
            printed = f"{output.get('ename', '')}: {output.get('evalue', '')}"
        if printed.strip():
            more = "\n…" if len(printed) > MAX_OUTPUT else ""
            yield _fence(printed[:MAX_OUTPUT].rstrip() + more, "")


def _join(lines: Any) -> str:
    return "".join(map(str, lines)) if isinstance(lines, list) else str(lines or "")


def _fence(text: str, language: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language if language.isalnum() else ''}\n{text.strip(chr(10))}\n{fence}"
