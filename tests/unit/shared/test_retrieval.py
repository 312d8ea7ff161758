from shared.contracts import chunk_id
from shared.retrieval import pick_diverse
from shared.vectors.port import Chunk, ScoredChunk


def hit(uri: str, position: int, score: float) -> ScoredChunk:
    chunk = Chunk(chunk_id(uri, "0" * 64, position), uri, "0" * 64, position, "guides", uri, "", "text")
    return ScoredChunk(chunk, score)


def test_one_chunk_a_document_while_documents_are_enough() -> None:
    hits = [hit("a", 0, 0.9), hit("a", 1, 0.8), hit("b", 0, 0.7)]
    assert [(h.chunk.uri, h.score) for h in pick_diverse(hits, 2)] == [("a", 0.9), ("b", 0.7)]


def test_further_chunks_of_a_document_fill_what_is_left() -> None:
    hits = [hit("a", 1, 0.8), hit("a", 0, 0.9), hit("b", 0, 0.85)]
    assert [h.score for h in pick_diverse(hits, 3)] == [0.9, 0.85, 0.8]


def test_nothing_found_is_nothing() -> None:
    assert pick_diverse([], 3) == []


def test_chunk_ids_are_deterministic_and_distinct() -> None:
    ids = {chunk_id(uri, digest, n) for uri in "ab" for digest in ("0" * 64, "1" * 64) for n in range(3)}
    assert len(ids) == 12
    assert chunk_id("a", "0" * 64, 0) == chunk_id("a", "0" * 64, 0)
