"""What every vector store must do; run on the fake and on Weaviate."""

import math

import pytest

from shared.contracts import chunk_id
from shared.vectors.port import Chunk, EmbeddedChunk, VectorStore, VectorStoreError

DIMENSIONS = 8


def make_chunk(uri: str, position: int, text: str) -> Chunk:
    return Chunk(
        chunk_id(uri, "a" * 64, position), uri, "a" * 64, position, "guides", uri.split("/")[-1], "", text
    )


def embed(chunk: Chunk, direction: int) -> EmbeddedChunk:
    return EmbeddedChunk(chunk, [1.0 if n == direction else 0.01 for n in range(DIMENSIONS)])


def check_search(store: VectorStore, first: Chunk, second: Chunk) -> None:
    """By words and by vector together and alone; the cosine is the true one, whatever the length of the query's."""
    towards_second = [3.0 * value for value in embed(second, 1).vector]
    true = 0.01 * 2 + 0.01**2 * (
        DIMENSIONS - 2
    )  # of the two chunks' vectors, before they are divided by their norms
    square = 1 + 0.01**2 * (DIMENSIONS - 1)
    hits = store.search("wake", towards_second, 5)
    assert {hit.chunk.id: hit.cosine for hit in hits} == {
        first.id: pytest.approx(true / square, abs=1e-5),
        second.id: pytest.approx(1, abs=1e-5),
    }
    assert [hit.chunk for hit in store.search("wake", towards_second, 5, alpha=1)] == [second, first]
    by_words = store.search("wake", towards_second, 5, alpha=0)
    assert [hit.chunk for hit in by_words] == [first]
    assert by_words[0].cosine == pytest.approx(true / square, abs=1e-5)


def check_contract(store: VectorStore) -> None:
    """The whole contract on an empty store."""
    store.drop_collection()
    assert not store.collection_exists()
    assert store.search("x", [1.0] + [0.0] * (DIMENSIONS - 1), 3) == []
    assert list(store.iterate()) == []
    store.create_collection()
    store.create_collection()
    assert store.collection_exists()

    first = make_chunk("knowledge://guides/assets.md", 0, "assets wake Dags")
    second = make_chunk("knowledge://guides/aliases.md", 0, "an alias points at a version")
    store.write([embed(first, 0), embed(second, 1)])
    store.write([embed(first, 0)])  # again is fine
    assert store.get([first.id, second.id, chunk_id("x", "b" * 64, 0)]) == {
        first.id: first,
        second.id: second,
    }
    assert sorted(chunk.id for chunk in store.iterate()) == sorted([first.id, second.id])
    hits = store.search("alias", embed(second, 1).vector, 1)
    assert [hit.chunk for hit in hits] == [second] and math.isfinite(hits[0].score)
    check_search(store, first, second)

    for vector in ([], [0.0] * DIMENSIONS, [math.nan] * DIMENSIONS):
        with pytest.raises(VectorStoreError, match="vector"):
            store.write([EmbeddedChunk(make_chunk("x", 9, "x"), vector)])
    with pytest.raises(VectorStoreError, match="NUL"):
        store.write([embed(make_chunk("x", 9, "a\0b"), 0)])

    store.delete([first.id, chunk_id("x", "b" * 64, 0)])
    assert set(store.get([first.id, second.id])) == {second.id}
    many = [
        embed(make_chunk("knowledge://notes/many.txt", n, f"line {n}"), n % DIMENSIONS) for n in range(450)
    ]
    store.write(many, fresh=True)
    assert sum(1 for _ in store.iterate()) == 451
    store.delete([item.chunk.id for item in many])
    assert [chunk.id for chunk in store.iterate()] == [second.id]
    assert store.mend() == 0 and store.count_starts() == store.count_starts() > 0
    store.drop_collection()
    store.drop_collection()
    assert store.mend() == 0
    assert not store.collection_exists()
    store.close()
