"""Finds the documents of every knowledge source on disk, and the files that can't be used.

It knows no ledger and no store.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.contracts import SOURCE_NAME_RULE, document_uri, is_source_name

SUFFIXES = frozenset({".md", ".markdown", ".txt"})
MAX_BYTES = 2_000_000
MAX_URI = 1024  # characters, as the ledger keeps it


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
    """A file or folder that can't be used, and what to do; earlier good versions stay in the knowledge base.

    `removal` is empty, or the digest by which a person accepts that documents of a source are gone.
    """

    uri: str
    message: str
    removal: str = ""


class KnowledgeError(RuntimeError):
    """The knowledge folder can't be used at all; nothing was changed."""


def list_sources(knowledge_dir: Path) -> list[str]:
    """Names of the sources: the visible folders whose names can be used. Empty where there is no folder."""
    return [name for name in _list_folders(knowledge_dir) if is_source_name(name)]


def _list_folders(knowledge_dir: Path) -> list[str]:
    # os.path: what can't be looked at (a dead mount) is no folder here, and a problem in the scan.
    return [p.name for p in _list_entries(knowledge_dir) if os.path.isdir(p)]


def _list_entries(knowledge_dir: Path) -> list[Path]:
    """What lies in the knowledge folder, but for what is hidden; nothing where it can't be read."""
    try:
        return sorted(p for p in knowledge_dir.iterdir() if not p.name.startswith("."))
    except OSError:
        return []


def scan_sources(knowledge_dir: Path) -> tuple[list[SourceDocument], list[Problem]]:
    """All documents of all sources, ordered by URI. Raises KnowledgeError where there is no folder to read."""
    if not knowledge_dir.is_dir():
        raise KnowledgeError(
            f"There is no folder {knowledge_dir}: create it, with one folder per source inside."
        )
    if not os.access(knowledge_dir, os.R_OK | os.X_OK):
        raise KnowledgeError(f"The folder {knowledge_dir} can't be read: check its permissions.")
    documents: list[SourceDocument] = []
    problems = [
        Problem(
            _show(document_uri("", p.name)),
            "it lies beside the sources: move it into a folder, such as guides/",
        )
        for p in _list_entries(knowledge_dir)
        if os.path.isfile(p)
    ]
    problems += [
        Problem(
            _show(document_uri(p.name, "").removesuffix("/")),
            "it is a link to nothing, or can't be read: mend or delete it",
        )
        for p in _list_entries(knowledge_dir)
        if not os.path.isfile(p) and not os.path.isdir(p)
    ]
    problems += [
        Problem(
            _show(document_uri(name, "").removesuffix("/")),
            f"{SOURCE_NAME_RULE}: rename the folder",
        )
        for name in _list_folders(knowledge_dir)
        if not is_source_name(name)
    ]
    for source in list_sources(knowledge_dir):
        folder = knowledge_dir / source
        for path in _walk(folder):
            uri = document_uri(source, path.relative_to(folder).as_posix()).removesuffix("/.")
            found = read_document(source, path, uri, folder.resolve())
            if isinstance(found, Problem):
                problems.append(found)
            else:
                documents.append(found)
    return sorted(documents, key=lambda document: document.uri), problems


def _show(uri: str) -> str:
    """The URI where it can be printed and stored, else with its odd characters escaped."""
    return uri if uri.isprintable() else ascii(uri)[1:-1]


def _walk(folder: Path) -> Iterator[Path]:
    """Visible files below a folder, and the folders that can't be read or are links."""
    unreadable: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (path for name in folders if (path := Path(parent, name)).is_symlink())
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))
    yield from (Path(error.filename) for error in unreadable)


def read_document(source: str, path: Path, uri: str, folder: Path) -> SourceDocument | Problem:
    """One file below the resolved `folder` as a document, or what is wrong with it."""
    if not uri.isprintable():
        return Problem(_show(uri), "its name holds characters that are not text: rename it")
    if len(uri) > MAX_URI:
        return Problem(
            uri, f"its path is longer than {MAX_URI:,} characters: shorten the names of its folders"
        )
    if os.path.isdir(path):
        if path.is_symlink():
            return Problem(
                uri, "links to folders are not followed inside a source: put the folder itself there"
            )
        return Problem(uri, "the folder can't be read: check its permissions")
    if path.is_symlink() and not os.path.exists(path):
        return Problem(uri, "it is no regular file, or a link to nothing: replace or delete it")
    if path.suffix.lower() not in SUFFIXES:
        return Problem(uri, f"{path.suffix or 'a file without a suffix'} is not read: use .md or .txt")
    try:
        if not path.resolve().is_relative_to(folder):
            return Problem(uri, "it is a link out of its source: put the file itself there")
        if not path.is_file():
            return Problem(uri, "it is no regular file, or a link to nothing: replace or delete it")
        if (size := path.stat().st_size) > MAX_BYTES:
            return Problem(uri, f"it has {size:,} bytes, more than {MAX_BYTES:,}: split it")
        content = path.read_bytes()
    except OSError as error:
        return Problem(uri, f"it can't be read: {error.strerror}")
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
