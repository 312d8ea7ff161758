"""Loads a batch's passages into the store: embedded, journalled, written, verified, a group at a time.

It knows no source and no format.
"""

import time
from collections.abc import Iterator

from deployments.ingest import schemas, staging
from deployments.ingest.batches import Batch, name_file
from deployments.ingest.composition import Ingest
from deployments.ingest.embedding import embed_texts, join_text
from deployments.ingest.handover import RunFiles
from deployments.ingest.ledger import Turn, Version
from deployments.ingest.sync import write_chunks
from shared.contracts import chunk_id
from shared.vectors.port import Chunk, EmbeddedChunk

CHUNKS_AT_ONCE = 512  # held in memory with their vectors


def load_batch(ingest: Ingest, files: RunFiles, batch: Batch, turn: Turn) -> dict[str, int]:
    """The file `loaded` of the batch, once all its chunks are in the store; counts: written, embedded, reused."""
    began = time.monotonic()
    versions = {
        row["uri"]: Version(row["uri"], row["content_hash"], row["recipe"], row["chunks"])
        for row in files.read(name_file("documents", batch))
        if not row["known"]
    }
    fresh: set[Version] = set()
    counts = {"written": 0, "embedded": 0, "reused": 0}
    for chunks in staging.group(_read_chunks(files, batch), CHUNKS_AT_ONCE):
        texts = [join_text(chunk.title, chunk.heading, chunk.text) for chunk in chunks]
        embedded = embed_texts(ingest.sessions, ingest.llm, ingest.embedding_model, texts)
        made = [EmbeddedChunk(chunk, vector) for chunk, vector in zip(chunks, embedded.vectors, strict=True)]
        write_chunks(made, versions, fresh, ingest.store, ingest.sessions, turn)
        counts["written"] += len(chunks)
        counts["embedded"] += embedded.asked
        counts["reused"] += len(chunks) - embedded.asked
    rows = [{"uri": v.uri, "content_hash": v.content_hash, "recipe": v.recipe} for v in versions.values()]
    notes = {**counts, "seconds": time.monotonic() - began}
    files.write_rows(name_file("loaded", batch), schemas.LOADED, rows, notes)
    return counts


def _read_chunks(files: RunFiles, batch: Batch) -> Iterator[Chunk]:
    for row in files.read(name_file("passages", batch)):
        yield Chunk(
            **row,
            id=chunk_id(row["uri"], row["content_hash"], row["position"], row["recipe"]),
            source=batch["source"],
        )
