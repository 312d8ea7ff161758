"""From a path in a source to a document's URI, or to what is wrong with the path.

It knows no connector and reads no file.
"""

from deployments.ingest.connectors.port import MAX_BYTES, MAX_URI
from deployments.ingest.model import Problem
from shared.contracts import document_uri


def name_document(source: str, path: str) -> str | Problem:
    """The URI of the document at `path` (POSIX form, relative), or why there can be none."""
    uri = document_uri(source, path)
    if not uri.isprintable():
        return Problem(show(uri), "its name holds characters that are not text: rename it")
    if len(uri) > MAX_URI:
        return Problem(
            uri, f"its path is longer than {MAX_URI:,} characters: shorten the names of its folders"
        )
    if any(part in ("", ".", "..") for part in path.split("/")):
        return Problem(uri, "its path has an empty part, . or .. in it: rename it")
    return uri


def is_hidden(path: str) -> bool:
    """Whether a part of the path begins with a dot, as what is nobody's document does (`.git/`, `.DS_Store`)."""
    return any(part.startswith(".") and part not in (".", "..") for part in path.split("/"))


def show(uri: str) -> str:
    """The URI where it can be printed and stored, else with its odd characters escaped."""
    return uri if uri.isprintable() else ascii(uri)[1:-1]


def refuse_size(size: int) -> str | None:
    """What to say of a document of so many bytes, where it is too large."""
    return f"it has {size:,} bytes, more than {MAX_BYTES:,}: split it" if size > MAX_BYTES else None
