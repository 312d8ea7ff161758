"""What ingest asks of a format: the text of a document's bytes. Extractors are pure: no file, no network, no clock."""

from abc import ABC, abstractmethod

from deployments.ingest.model import Extraction


class UnreadableError(ValueError):
    """The bytes can't be read as this format; the message says what to do. Reading the same bytes again won't help."""


class Extractor(ABC):
    """A format. Time and memory are bounded whatever the bytes are."""

    name: str  # in the recipe
    version: int  # in the recipe; a higher one when the same bytes give another text

    @abstractmethod
    def extract(self, content: bytes, name: str) -> Extraction:
        """The text of a document called `name` (the last part of its path). Raises UnreadableError."""
