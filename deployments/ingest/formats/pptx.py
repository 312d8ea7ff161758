"""Presentations: a slide is a page; its title a heading, its notes below it."""

from collections.abc import Iterator
from typing import Any, Final

import pptx

from deployments.ingest.formats.extraction import build_extraction
from deployments.ingest.formats.package import open_package
from deployments.ingest.formats.port import Extractor
from deployments.ingest.formats.tables import render_table
from deployments.ingest.model import Extraction

MAX_TAGS: Final = 3_000_000


class PptxExtractor(Extractor):
    """Slides as pages of Markdown; title, author and date of its properties, else the first slide's title."""

    name = "pptx"
    version = 1

    def extract(self, content: bytes, name: str) -> Extraction:
        """See `Extractor`."""
        with open_package(content, "a presentation", markup=MAX_TAGS) as (file, properties):
            slides = list(pptx.Presentation(file).slides)
            titles = [_find_title(slide) for slide in slides]
            pages = [
                "\n\n".join(_describe(slide, title)) for slide, title in zip(slides, titles, strict=True)
            ]
        # Every new presentation of a certain program is called so.
        known = "" if properties.title == "PowerPoint Presentation" else properties.title
        return build_extraction(
            pages,
            markdown=True,
            title=known or next(filter(None, titles), ""),
            language=properties.language,
            author=properties.author,
            dated=properties.dated,
        )


def _describe(slide: Any, title: str) -> Iterator[str]:
    if title:
        yield f"## {title}"
    for shape in _walk(slide.shapes):
        if shape.has_text_frame and shape != slide.shapes.title:
            lines = [
                f"{'  ' * paragraph.level}- {text}" if paragraph.level else text
                for paragraph in shape.text_frame.paragraphs
                if (text := " ".join(paragraph.text.split()))
            ]
            yield from filter(None, ["\n".join(lines)])
        elif getattr(shape, "has_table", False):
            yield render_table([cell.text for cell in row.cells] for row in shape.table.rows)
    if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame):
        notes = "\n".join(frame.text.split("\n")).strip()
        yield from filter(None, [notes and f"Notes: {notes}"])


def _find_title(slide: Any) -> str:
    title = slide.shapes.title
    return " ".join(title.text_frame.text.split()) if title is not None else ""


def _walk(shapes: Any) -> Iterator[Any]:
    """Shapes in order, those of groups in place of the group."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _walk(shape.shapes)
        else:
            yield shape
