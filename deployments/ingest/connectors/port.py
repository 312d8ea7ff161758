"""What ingest asks of a connector: list the documents of a source, and open one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deployments.ingest.model import Problem, RawDocument, Reference

MAX_BYTES = 50_000_000
"""A document of more is a problem, found before it is read whole."""
MAX_URI = 1024  # characters, as the ledger keeps it


@dataclass(frozen=True)
class Environment:
    """What a connector may be told about this installation, beside its source's options."""

    content_dir: Path  # relative paths of a declaration start here
    state_dir: Path  # clones and the like, which may be lost without harm
    uploads_url: str
    find_secret: Callable[[str], str]  # by the name that a declaration gives; "" where there is none


class SourceUnavailableError(RuntimeError):
    """The source can't be listed now, or not whole: what is missing may be there. Trying later may help."""


class DocumentUnreadableError(RuntimeError):
    """This document can't be opened as it is; the message says what to do."""


class DocumentWithheldError(DocumentUnreadableError):
    """It may be read later as it is (forbidden now, being written): its problem is to carry no fingerprint."""


class DocumentGoneError(DocumentUnreadableError):
    """It was there when it was listed."""


class Connector(ABC):
    """A source of documents. Every call has a time limit; memory does not grow with the source."""

    @abstractmethod
    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        """All documents there are now, in any order, each URI once.

        `known` holds the fingerprints of an earlier listing by key, for those that can ask "has it changed?". A Problem
        whose URI is that of a folder stands for all below it. Raises SourceUnavailableError, also in the middle: a
        listing that ends well is whole.
        """

    @abstractmethod
    def open_document(self, reference: Reference) -> RawDocument:
        """One document as it is now, at most MAX_BYTES. Raises DocumentUnreadableError and SourceUnavailableError.

        Its `reference.fingerprint` is of what was opened, which may be newer than what was listed: that one is to be
        kept, or content that later comes back would be taken for what was read.
        """

    def close(self) -> None:  # noqa: B027 -- most have nothing to let go of
        """Let go of connections and temporary files."""
