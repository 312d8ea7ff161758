"""Reads a batch's documents into the hand-over, one at a time.

It knows no store.
"""

import time

from deployments.ingest import ledger, schemas
from deployments.ingest.batches import Batch, name_file
from deployments.ingest.comparison import ToRead, make_reference
from deployments.ingest.composition import Ingest
from deployments.ingest.connectors.port import Connector
from deployments.ingest.extraction import open_document, read_document
from deployments.ingest.handover import RunFiles
from deployments.ingest.model import Problem


def write_batch(ingest: Ingest, connector: Connector, files: RunFiles, batch: Batch) -> dict[str, int]:
    """The files `documents`, last, `texts`, `passages` and `problems` of the batch; what it found, counted.

    What is as it is in the knowledge base needs no passages, whatever it was read by. Raises SourceUnavailableError.
    """
    began = time.monotonic()
    # What was loaded of an earlier reading does not count any more.
    files.delete(name_file("loaded", batch))
    rows = [
        ToRead(**row)
        for row in files.read_group(f"listed.{batch['turn']}.{batch['source']}", batch["number"])
    ]
    with ingest.sessions() as session:
        current = {v.uri: v.content_hash for v in ledger.read_current(session, [row.uri for row in rows])}
    counts = dict.fromkeys(("documents", "chunks", "unchanged", "problems", "gone"), 0)
    gone: list[str] = []
    with (
        files.write(name_file("documents", batch), schemas.DOCUMENTS) as documents,
        files.write(name_file("texts", batch), schemas.TEXTS) as texts,
        files.write(name_file("passages", batch), schemas.PASSAGES) as passages,
        files.write(name_file("problems", batch), schemas.PROBLEMS) as problems,
    ):
        for row in rows:
            reference = make_reference(row)
            raw = open_document(connector, reference)
            if raw is None:
                gone.append(row.uri)
                counts["gone"] += 1
                continue
            if not isinstance(raw, Problem) and current.get(row.uri) == raw.content_hash and not row.damaged:
                documents.add(schemas.known_to_row(raw.reference, raw.content_hash))
                counts["unchanged"] += 1
                continue
            read = raw if isinstance(raw, Problem) else read_document(raw, ingest.formats)
            if isinstance(read, Problem):
                problems.add(schemas.problem_to_row(read))
                counts["problems"] += 1
                continue
            documents.add(schemas.document_to_row(read.document, reference.key))
            texts.add(schemas.extraction_to_row(read.document, read.extraction))
            for position, passage in enumerate(read.passages):
                passages.add(schemas.passage_to_row(read.document, position, passage))
            counts["documents"] += 1
            counts["chunks"] += len(read.passages)
        documents.notes.update({"gone": gone, "seconds": time.monotonic() - began})
    return counts
