"""What Ghostwriter asks of a vector store.

It knows no vendor, no embedding model and no document format.
"""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ALPHA = 0.6  # weight of the vector in the hybrid search


@dataclass(frozen=True)
class Chunk:
    """A piece of one version of one document. `id` is `contracts.chunk_id(uri, content_hash, position, recipe)`."""

    id: str
    uri: str
    content_hash: str  # sha256 hex of the document's bytes
    position: int  # 0, 1, … within the document
    source: str
    title: str  # of the document
    heading: str  # the headings above it from the top, joined by " › ", or ""
    text: str
    recipe: str = ""  # how the version was extracted and split; "" before there were recipes
    page: int | None = None  # from 1
    start: int = 0  # characters into the document's extracted text
    end: int = 0


@dataclass(frozen=True)
class EmbeddedChunk:
    """A chunk with its unit vector."""

    chunk: Chunk
    vector: Sequence[float]


@dataclass(frozen=True)
class ScoredChunk:
    """A search hit; a higher score is a better one, within one search.

    The cosine between the query's vector and the chunk's can be compared between searches with one embedding model.
    """

    chunk: Chunk
    score: float
    cosine: float = 0.0


class VectorStoreError(RuntimeError):
    """The store refused, failed for some objects or can't be reached; the message says which and what to do."""


def check_vectors(chunks: Sequence[EmbeddedChunk]) -> None:
    """Raise VectorStoreError for a missing, zero or non-finite vector or a NUL in a text: stores take them silently."""
    for item in chunks:
        if not item.vector or not any(item.vector) or not all(map(math.isfinite, item.vector)):
            raise VectorStoreError(f"Chunk {item.chunk.position} of {item.chunk.uri} has no usable vector.")
        if "\0" in item.chunk.text:
            raise VectorStoreError(f"Chunk {item.chunk.position} of {item.chunk.uri} holds a NUL character.")


def compute_cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """The cosine of the angle between two vectors; 0 where one is empty, zero or of another length."""
    norms = math.hypot(*first) * math.hypot(*second)
    if not norms or len(first) != len(second):
        return 0.0
    return sum(map(operator.mul, first, second)) / norms


class VectorStore(ABC):
    """Chunks by id, searched by text and vector. Every call has a time limit. All raise VectorStoreError."""

    @abstractmethod
    def collection_exists(self) -> bool:
        """Whether the alias points at a collection."""

    @abstractmethod
    def create_collection(self) -> None:
        """Create the collection and its alias; does nothing where they are."""

    @abstractmethod
    def drop_collection(self) -> None:
        """Remove alias and collection with all chunks; does nothing where there are none."""

    @abstractmethod
    def write(self, chunks: Sequence[EmbeddedChunk], *, fresh: bool = False) -> None:
        """Delete by id, then insert: heals what a crash left half-written. Rejects zero or non-finite vectors.

        `fresh` chunks were never sent before, so there is nothing to delete: that saves half of the time.
        """

    @abstractmethod
    def delete(self, ids: Sequence[str]) -> None:
        """Delete by id; ids that aren't there are fine."""

    @abstractmethod
    def get(self, ids: Sequence[str]) -> dict[str, Chunk]:
        """The chunks that exist, by id."""

    @abstractmethod
    def count(self) -> int:
        """How many chunks there are, without reading them; 0 where there is no collection."""

    @abstractmethod
    def iterate(self) -> Iterator[Chunk]:
        """All chunks, in no order; memory does not grow with their number."""

    @abstractmethod
    def search(
        self, text: str, vector: Sequence[float], limit: int, *, alpha: float = ALPHA
    ) -> list[ScoredChunk]:
        """Hybrid search (BM25 and vector), best first; empty where there is no collection.

        `alpha` is the weight of the vector: 1 searches by it alone, 0 by words alone.
        """

    @abstractmethod
    def count_starts(self) -> int:
        """A number that is another one after each start of the store: what was in flight may be torn then."""

    @abstractmethod
    def mend(self) -> int:
        """Write anew the chunks that their own vector does not find, as a kill of the store leaves them; how many.

        Looks at every chunk: a second for some hundreds.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""
