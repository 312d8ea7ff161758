"""The columns of the hand-over's files, and how the types of the journey become rows and come back.

It does no I/O.
"""

import json
from typing import Any

import pyarrow as pa

from deployments.ingest.model import Document, Extraction, Passage, Problem, Reference, Source

Row = dict[str, Any]


def _make_schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


_TEXT, _LONG = pa.string(), pa.large_string()

SOURCES = _make_schema(name=_TEXT, connector=_TEXT, options=_TEXT)
"""`sources`: what is declared; options as JSON."""

REFERENCES = _make_schema(
    uri=_TEXT, source=_TEXT, key=_TEXT, fingerprint=_TEXT, size=pa.int64(), media_type=_TEXT, place=_TEXT
)
"""`scan.<source>`: what it shows."""

PLANNED = REFERENCES.append(pa.field("damaged", pa.bool_()))
"""`listed.<turn>.<source>`: what is to be read, a row group a batch."""

GONE = _make_schema(uri=_TEXT, source=_TEXT, content_hash=_TEXT, seems_moved=pa.bool_())
"""`gone.<turn>`: documents that no source shows any more."""

LOST = _make_schema(uri=_TEXT, lost=pa.int64())
"""`plan.<turn>`: damaged documents that are not to be read, and how many chunks the store lost of each."""

PROBLEMS = _make_schema(uri=_TEXT, message=_TEXT, removal=_TEXT, fingerprint=_TEXT)
"""`unlisted.<source>`, `kept.<turn>`, `problems.<batch>`."""

DOCUMENTS = _make_schema(
    uri=_TEXT, source=_TEXT, key=_TEXT, fingerprint=_TEXT, content_hash=_TEXT, known=pa.bool_(), title=_LONG,
    size=pa.int64(), chunks=pa.int32(), recipe=_TEXT, media_type=_TEXT, language=_TEXT, author=_LONG,
    dated=pa.date32(), place=_TEXT, notes=_LONG,
)  # fmt: skip
"""`documents.<batch>`: what was opened; where it is known already, its fingerprint alone is new."""

TEXTS = _make_schema(
    content_hash=_TEXT, extractor=_TEXT, text=_LONG, markdown=pa.bool_(), title=_LONG, pages=_LONG
)
"""`texts.<batch>`: the text of what is not known; pages as JSON."""

PASSAGES = _make_schema(
    uri=_TEXT, content_hash=_TEXT, recipe=_TEXT, position=pa.int32(), title=_LONG, heading=_LONG, text=_LONG,
    start=pa.int32(), end=pa.int32(), page=pa.int32(),
)  # fmt: skip
"""`passages.<batch>`: the passages of what is not known, document by document."""

LOADED = _make_schema(uri=_TEXT, content_hash=_TEXT, recipe=_TEXT)
"""`loaded.<batch>`: what is whole in the store."""


def source_to_row(source: Source) -> Row:
    return {"name": source.name, "connector": source.connector, "options": json.dumps(source.options)}


def row_to_source(row: Row) -> Source:
    options = tuple((name, _freeze(value)) for name, value in json.loads(row["options"]))
    return Source(row["name"], row["connector"], options)


def _freeze(value: Any) -> Any:
    """JSON has lists where the source has tuples."""
    return tuple(map(_freeze, value)) if isinstance(value, list) else value


def reference_to_row(reference: Reference) -> Row:
    return {name: getattr(reference, name) for name in REFERENCES.names}


def problem_to_row(problem: Problem) -> Row:
    return {name: getattr(problem, name) for name in PROBLEMS.names}


def row_to_problem(row: Row) -> Problem:
    return Problem(**row)


def document_to_row(document: Document, key: str) -> Row:
    """A document that has passages to be loaded."""
    values = {name: getattr(document, name, None) for name in DOCUMENTS.names}
    return {**values, "key": key, "known": False, "notes": json.dumps(document.notes)}


def known_to_row(reference: Reference, content_hash: str) -> Row:
    """A document that is as it is in the knowledge base."""
    names = ("uri", "source", "key", "fingerprint")
    shown = {name: getattr(reference, name) for name in names}
    return {**dict.fromkeys(DOCUMENTS.names), **shown, "content_hash": content_hash, "known": True}


def extraction_to_row(document: Document, extraction: Extraction) -> Row:
    return {
        "content_hash": document.content_hash,
        "extractor": document.recipe.partition("+")[0],
        "text": extraction.text,
        "markdown": extraction.markdown,
        "title": extraction.title,
        "pages": json.dumps(extraction.pages),
    }


def passage_to_row(document: Document, position: int, passage: Passage) -> Row:
    return {
        "uri": document.uri,
        "content_hash": document.content_hash,
        "recipe": document.recipe,
        "position": position,
        "title": document.title,
        "heading": " › ".join(passage.headings),
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "page": passage.page,
    }
