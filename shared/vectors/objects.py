"""How a chunk lies in the store as an object: its properties, and the way back. It knows no client."""

from typing import Any

from shared.vectors.port import Chunk

GROUP = 200  # objects a call
FIELDS = ("uri", "content_hash", "source", "recipe")  # compared whole, never by word
NUMBERS = ("position", "page", "start", "end")
WORDS = ("title", "heading", "text")  # searched by BM25


def to_properties(chunk: Chunk) -> dict[str, Any]:
    """The properties of its object."""
    return {name: getattr(chunk, name) for name in (*FIELDS, *WORDS, *NUMBERS)}


def to_chunk(item: Any) -> Chunk:
    """The chunk that an object of the store holds."""
    values = item.properties
    texts: dict[str, Any] = {name: str(values.get(name) or "") for name in (*FIELDS, *WORDS)}
    numbers: dict[str, Any] = {name: int(values.get(name) or 0) for name in NUMBERS}
    return Chunk(id=str(item.uuid), **texts, **{**numbers, "page": numbers["page"] or None})
