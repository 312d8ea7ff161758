"""Lists a source into the hand-over, reference by reference.

It knows no ledger; what can't be kept there is a problem here.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

from deployments.ingest import schemas
from deployments.ingest.connectors.port import MAX_URI, Connector
from deployments.ingest.handover import RunFiles
from deployments.ingest.model import Problem, Reference, Source
from shared.contracts import document_uri

MAX_URI_BYTES = 2_600  # an index of Postgres takes no more
MAX_FINGERPRINT = 200


def write_listing(
    connector: Connector, source: Source, known: Mapping[str, str], files: RunFiles, notes: Mapping[str, Any]
) -> dict[str, int]:
    """The files `scan.<source>`, last, and `unlisted.<source>`; counts: documents, problems.

    Raises what the connector raises: there is no `scan.<source>` then.
    """
    began = time.monotonic()
    files.delete(f"scan.{source.name}")
    with (
        files.write(f"scan.{source.name}", schemas.REFERENCES) as references,
        files.write(f"unlisted.{source.name}", schemas.PROBLEMS) as problems,
    ):
        for found in connector.list_references(known):
            checked = check_reference(found, source) if isinstance(found, Reference) else found
            if isinstance(checked, Reference):
                references.add(schemas.reference_to_row(checked))
            else:
                problems.add(schemas.problem_to_row(checked))
        references.notes.update({**notes, "seconds": time.monotonic() - began})
    return {"documents": references.count, "problems": problems.count}


def check_reference(reference: Reference, source: Source) -> Reference | Problem:
    """The reference, or why the ledger could not keep it."""
    uri = reference.uri
    if not uri.startswith(document_uri(source.name, "")) or not uri.isprintable():
        return Problem(_show(uri), "its name holds characters that are not text: rename it")
    if len(uri) > MAX_URI or len(uri.encode()) > MAX_URI_BYTES:
        return Problem(
            uri, f"its path is longer than {MAX_URI:,} characters: shorten the names of its folders"
        )
    if len(reference.fingerprint) > MAX_FINGERPRINT or not reference.fingerprint:
        return Problem(uri, "its source gives it no usable fingerprint: this is a mistake of the connector")
    if "\0" in reference.key + reference.place + reference.media_type + reference.fingerprint:
        return Problem(uri, "its source says NUL characters of it: rename it")
    return reference


def _show(uri: str) -> str:
    """The URI where it can be printed and stored, else with its odd characters escaped."""
    return uri if uri.isprintable() else ascii(uri)[1:-1]


class KnownFingerprints(Mapping[str, str]):
    """Fingerprints by key, read when the first is asked for: most connectors ask for none."""

    def __init__(self, read: Callable[[], Mapping[str, str]]) -> None:
        self._read = read

    @cached_property
    def _known(self) -> Mapping[str, str]:
        return self._read()

    def __getitem__(self, key: str) -> str:
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
