"""Finds the chunks that a topic's post is written from: embed the topic, search, keep one chunk a document.

It knows no vendor: the provider and the store are handed in.
"""

from collections.abc import Sequence

from shared.llm.port import Llm
from shared.vectors.port import ScoredChunk, VectorStore

CANDIDATES_PER_SOURCE = 10  # one document may hold many of the best chunks


def retrieve(
    topic: str, *, llm: Llm, embedding_model: str, store: VectorStore, top_k: int
) -> list[ScoredChunk]:
    """The `top_k` best chunks for a topic, best first, at most one a document while enough documents match.

    Raises LlmError and VectorStoreError.
    """
    (vector,) = llm.embed(embedding_model, [topic])
    return pick_diverse(store.search(topic, vector, top_k * CANDIDATES_PER_SOURCE), top_k)


def pick_diverse(hits: Sequence[ScoredChunk], top_k: int) -> list[ScoredChunk]:
    """The best hit of each document first; further hits of the same documents fill what is left. Order by score."""
    seen: set[str] = set()
    first: list[ScoredChunk] = []
    rest: list[ScoredChunk] = []
    for hit in sorted(hits, key=lambda hit: -hit.score):
        (rest if hit.chunk.uri in seen else first).append(hit)
        seen.add(hit.chunk.uri)
    return sorted((first + rest)[:top_k], key=lambda hit: -hit.score)
