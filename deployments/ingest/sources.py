"""Finds the documents of every knowledge source on disk, and the files that can't be used.

It knows no ledger and no store.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shared.contracts import document_uri

SUFFIXES = frozenset({".md", ".markdown", ".txt"})
MAX_BYTES = 2_000_000


@dataclass(frozen=True)
class SourceDocument:
    """A file as it is now."""

    uri: str
    source: str
    path: Path
    content_hash: str  # sha256 hex of the bytes
    size: int  # bytes


@dataclass(frozen=True)
class Problem:
    """A file that can't be used, and what to do; an earlier good version of it stays in the knowledge base."""

    uri: str
    message: str


class KnowledgeError(RuntimeError):
    """The knowledge folder can't be used at all; nothing was changed."""


def list_sources(knowledge_dir: Path) -> list[str]:
    """Names of the sources: the visible folders. Empty where there is no folder."""
    if not knowledge_dir.is_dir():
        return []
    return sorted(p.name for p in knowledge_dir.iterdir() if p.is_dir() and not p.name.startswith("."))


def scan_sources(knowledge_dir: Path) -> tuple[list[SourceDocument], list[Problem]]:
    """All documents of all sources, ordered by URI. Raises KnowledgeError where there is no folder."""
    if not knowledge_dir.is_dir():
        raise KnowledgeError(
            f"There is no folder {knowledge_dir}: create it, with one folder per source inside."
        )
    documents: list[SourceDocument] = []
    problems = [
        Problem(
            document_uri("", p.name), "it lies beside the sources: move it into a folder, such as guides/"
        )
        for p in sorted(knowledge_dir.iterdir())
        if p.is_file() and not p.name.startswith(".")
    ]
    for source in list_sources(knowledge_dir):
        folder = knowledge_dir / source
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if path.is_dir() or any(part.startswith(".") for part in relative.parts):
                continue
            found = read_document(source, path, document_uri(source, relative.as_posix()))
            if isinstance(found, Problem):
                problems.append(found)
            else:
                documents.append(found)
    return documents, problems


def read_document(source: str, path: Path, uri: str) -> SourceDocument | Problem:
    """One file as a document, or what is wrong with it."""
    if path.suffix.lower() not in SUFFIXES:
        return Problem(uri, f"{path.suffix or 'a file without a suffix'} is not read: use .md or .txt")
    try:
        content = path.read_bytes()
    except OSError as error:
        return Problem(uri, f"it can't be read: {error.strerror}")
    if len(content) > MAX_BYTES:
        return Problem(uri, f"it has {len(content):,} bytes, more than {MAX_BYTES:,}: split it")
    if b"\0" in content:
        return Problem(uri, "it is binary: save it as plain text or Markdown")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem(uri, f"it is not UTF-8 (byte {error.start}): save it as UTF-8")
    if not text.strip():
        return Problem(
            uri, "it is empty: write something, or delete the file to remove it from the knowledge base"
        )
    return SourceDocument(uri, source, path, hashlib.sha256(content).hexdigest(), len(content))
