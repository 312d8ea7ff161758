"""A vector store in memory for tests: honest about the contract, exact in its search.

It knows no network.
"""

import re
from collections.abc import Iterator, Sequence

from shared.vectors.port import (
    ALPHA,
    Chunk,
    EmbeddedChunk,
    ScoredChunk,
    VectorStore,
    VectorStoreError,
    check_vectors,
    compute_cosine,
)


class FakeVectorStore(VectorStore):
    """`fail_next` makes the next call raise, as a server that goes away would."""

    def __init__(self, *, created: bool = True) -> None:
        self._chunks: dict[str, EmbeddedChunk] | None = {} if created else None
        self.fail_next = False
        self.starts = 1
        self.torn: set[str] = set()  # ids of chunks that no search finds, as after a kill

    def collection_exists(self) -> bool:
        self._maybe_fail()
        return self._chunks is not None

    def create_collection(self) -> None:
        self._maybe_fail()
        if self._chunks is None:
            self._chunks = {}

    def drop_collection(self) -> None:
        self._maybe_fail()
        self._chunks = None

    def write(self, chunks: Sequence[EmbeddedChunk], *, fresh: bool = False) -> None:
        self._maybe_fail()
        check_vectors(chunks)
        if self._chunks is None:
            raise VectorStoreError("There is no collection to write to.")
        if fresh and (known := [item.chunk.id for item in chunks if item.chunk.id in self._chunks]):
            raise VectorStoreError(f"{len(known)} chunks are not fresh.")
        self._chunks.update({item.chunk.id: item for item in chunks})

    def delete(self, ids: Sequence[str]) -> None:
        self._maybe_fail()
        for chunk_id in ids:
            (self._chunks or {}).pop(chunk_id, None)
            self.torn.discard(chunk_id)

    def get(self, ids: Sequence[str]) -> dict[str, Chunk]:
        self._maybe_fail()
        chunks = self._chunks or {}
        return {chunk_id: chunks[chunk_id].chunk for chunk_id in ids if chunk_id in chunks}

    def count(self) -> int:
        self._maybe_fail()
        return len(self._chunks or {})

    def iterate(self) -> Iterator[Chunk]:
        self._maybe_fail()
        yield from [item.chunk for item in (self._chunks or {}).values()]

    def search(
        self, text: str, vector: Sequence[float], limit: int, *, alpha: float = ALPHA
    ) -> list[ScoredChunk]:
        self._maybe_fail()
        words = set(re.findall(r"\w+", text.lower()))
        hits = []
        for name, item in (self._chunks or {}).items():
            if name in self.torn:
                continue
            found = set(re.findall(r"\w+", f"{item.chunk.title} {item.chunk.text}".lower()))
            keyword = len(words & found) / len(words) if words else 0.0
            cosine = compute_cosine(vector, item.vector)
            if keyword or alpha:  # by words alone, what shares none is no hit
                hits.append(ScoredChunk(item.chunk, alpha * cosine + (1 - alpha) * keyword, cosine))
        return sorted(hits, key=lambda hit: -hit.score)[:limit]

    def count_starts(self) -> int:
        self._maybe_fail()
        return self.starts

    def mend(self) -> int:
        self._maybe_fail()
        mended = self.torn.intersection(self._chunks or {})
        self.torn.clear()
        return len(mended)

    def close(self) -> None:
        """Nothing to let go of."""

    def _maybe_fail(self) -> None:
        if self.fail_next:
            self.fail_next = False
            raise VectorStoreError("The vector store can't be reached.")
