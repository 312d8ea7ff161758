"""What ingest asks of a connector: list the documents of a source, and open one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from deployments.ingest.model import Problem, RawDocument, Reference

MAX_BYTES = 50_000_000
"""A document of more is a problem, found before it is read whole."""
MAX_URI = 1024  # characters, as the ledger keeps it


class SourceUnavailableError(RuntimeError):
    """The source can't be listed now, or not whole: what is missing may be there. Trying later may help."""


class DocumentUnreadableError(RuntimeError):
    """This document can't be opened as it is; the message says what to do."""


class DocumentGoneError(DocumentUnreadableError):
    """It was there when it was listed."""


class Connector(ABC):
    """A source of documents. Every call has a time limit; memory does not grow with the source."""

    @abstractmethod
    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        """All documents there are now, in any order, each URI once.

        `known` holds the fingerprints of an earlier listing by key, for those that can ask "has it changed?".
        Raises SourceUnavailableError, also in the middle: a listing that ends well is whole.
        """

    @abstractmethod
    def open_document(self, reference: Reference) -> RawDocument:
        """One document as it is now, at most MAX_BYTES. Raises DocumentUnreadableError and SourceUnavailableError."""

    def close(self) -> None:  # noqa: B027 -- most have nothing to let go of
        """Let go of connections and temporary files."""
