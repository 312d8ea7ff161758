"""A source in memory, for tests.

It breaks and changes when it is told to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256

from deployments.ingest.connectors.naming import name_document, refuse_size
from deployments.ingest.connectors.port import (
    Connector,
    DocumentGoneError,
    DocumentUnreadableError,
    SourceUnavailableError,
)
from deployments.ingest.model import Problem, RawDocument, Reference


class FakeConnector(Connector):
    """Documents by path, which a test changes as it likes.

    `broken_after`: the listing fails when it has shown so many; 0: before the first. `opened` counts openings by path.
    """

    def __init__(self, name: str = "fake", documents: Mapping[str, bytes] | None = None) -> None:
        self.name = name
        self.documents: dict[str, bytes] = dict(documents or {})
        self.broken_after: int | None = None
        self.opened: dict[str, int] = {}
        self.closed = False

    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        for number, (path, content) in enumerate(sorted(self.documents.items())):
            if number == self.broken_after:
                break
            uri = name_document(self.name, path)
            if isinstance(uri, Problem):
                yield uri
            elif message := refuse_size(len(content)):
                yield Problem(uri, message, fingerprint=_mark(content))
            else:
                yield Reference(uri, self.name, path, _mark(content), len(content))
        if self.broken_after is not None:
            raise SourceUnavailableError("the fake source is broken")

    def open_document(self, reference: Reference) -> RawDocument:
        self.opened[reference.key] = self.opened.get(reference.key, 0) + 1
        if self.broken_after is not None:
            raise SourceUnavailableError("the fake source is broken")
        if reference.key not in self.documents:
            raise DocumentGoneError("it is not there any more")
        content = self.documents[reference.key]
        if message := refuse_size(len(content)):
            raise DocumentUnreadableError(message)
        opened = replace(reference, fingerprint=_mark(content), size=len(content))
        return RawDocument(opened, content, sha256(content).hexdigest(), reference.media_type)

    def close(self) -> None:
        self.closed = True


def _mark(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"
