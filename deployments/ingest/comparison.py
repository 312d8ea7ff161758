"""What was listed, compared with the ledger by sets: which documents are to be read, and which are gone.

It knows no store and no file; its tables last as long as the transaction.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
from sqlalchemy import text
from sqlalchemy.orm import Session

from deployments.ingest import staging
from deployments.ingest.model import Problem, Reference
from deployments.ingest.plan import LEAST_BYTES, UNKNOWN_BYTES


class ToRead(NamedTuple):
    """A document that is to be opened, and why."""

    uri: str
    source: str
    key: str
    fingerprint: str
    size: int | None
    media_type: str
    place: str
    damaged: bool  # the store lost chunks of it: it is written again even if it is as it was


class Gone(NamedTuple):
    """A document of the knowledge base that no source shows any more."""

    uri: str
    source: str
    content_hash: str
    seems_moved: bool  # something new looks just like it


def stage_listing(
    session: Session, tables: Iterable[pa.Table], damaged: Iterable[tuple[str, int]]
) -> list[Problem]:
    """Put listings and damaged documents (URI, lost chunks) beside the ledger; problems of URIs that came twice."""
    staging.create_table(
        session,
        "raw_listed",
        "uri text, source text, key text, fingerprint text, size bigint, media_type text, place text",
    )
    staging.fill_table(session, "raw_listed", tables)
    staging.create_table(session, "damaged", "uri text PRIMARY KEY, lost bigint")
    for rows in staging.group(damaged):
        session.execute(
            text("INSERT INTO damaged SELECT * FROM unnest(cast(:uris AS text[]), cast(:lost AS bigint[]))"),
            {"uris": [uri for uri, _ in rows], "lost": [lost for _, lost in rows]},
        )
    staging.analyze(session, "raw_listed")
    session.execute(
        text(
            """CREATE TEMPORARY TABLE listed ON COMMIT DROP AS
               SELECT l.*, d.content_hash, m.uri IS NOT NULL AS damaged,
                 CASE WHEN m.uri IS NULL AND r.fingerprint = l.fingerprint AND r.content_hash = d.content_hash
                        THEN 'unchanged'
                      WHEN EXISTS (SELECT 1 FROM knowledge_problems p
                                   WHERE p.uri = l.uri AND p.fingerprint = l.fingerprint AND p.fingerprint <> '')
                        THEN 'quarantined'
                      WHEN d.uri IS NULL THEN 'added'
                      ELSE 'changed' END AS state
               FROM (SELECT DISTINCT ON (uri) * FROM raw_listed ORDER BY uri, key) l
               LEFT JOIN document_versions d ON d.uri = l.uri AND d.superseded_at IS NULL
               LEFT JOIN document_references r ON r.uri = l.uri
               LEFT JOIN damaged m ON m.uri = l.uri"""
        )
    )
    session.execute(text("CREATE INDEX ON listed (uri)"))
    staging.analyze(session, "listed")
    doubled = session.execute(
        text(
            """SELECT uri, count(*), min(key), max(key) FROM raw_listed GROUP BY uri HAVING count(*) > 1
               ORDER BY uri LIMIT 1000"""
        )
    )
    return [
        Problem(uri, f"{count} documents have this URI, such as {first!r} and {last!r}: rename all but one")
        for uri, count, first, last in doubled
    ]


def stage_gone(session: Session, kept_sources: Collection[str], kept_uris: Sequence[str]) -> None:
    """Find what no source shows: not of sources that could not be listed, nor below a URI that could not be read."""
    session.execute(
        text(
            """CREATE TEMPORARY TABLE gone ON COMMIT DROP AS
               SELECT d.uri, d.source, d.content_hash, r.fingerprint, false AS seems_moved
               FROM document_versions d LEFT JOIN document_references r ON r.uri = d.uri
               WHERE d.superseded_at IS NULL AND NOT d.source = ANY(cast(:sources AS text[]))
                 AND NOT EXISTS (SELECT 1 FROM listed l WHERE l.uri = d.uri)
                 AND NOT EXISTS (SELECT 1 FROM unnest(cast(:uris AS text[])) AS kept
                                 WHERE d.uri = kept OR starts_with(d.uri, kept || '/'))"""
        ),
        {"sources": list(kept_sources), "uris": list(kept_uris)},
    )
    session.execute(
        text(
            """UPDATE gone SET seems_moved = true
               FROM (SELECT uri, fingerprint, row_number() OVER (PARTITION BY fingerprint ORDER BY uri) AS number
                     FROM gone WHERE fingerprint IS NOT NULL) one
               JOIN (SELECT fingerprint, count(*) AS count FROM listed WHERE state = 'added' GROUP BY fingerprint) new
                 ON new.fingerprint = one.fingerprint AND one.number <= new.count
               WHERE gone.uri = one.uri"""
        )
    )


def count_states(session: Session) -> dict[str, int]:
    """Listed documents by state: unchanged, quarantined, added, changed; and those that are gone or seem moved."""
    counts = dict.fromkeys(("added", "changed", "unchanged", "quarantined"), 0)
    for row in session.execute(text("SELECT state, count(*) AS number FROM listed GROUP BY state")):
        counts[row.state] = row.number
    gone, moved = session.execute(
        text("SELECT count(*) FILTER (WHERE NOT seems_moved), count(*) FILTER (WHERE seems_moved) FROM gone")
    ).one()
    return {**counts, "gone": gone, "moved": moved}


def count_states_by_source(session: Session) -> dict[str, dict[str, int]]:
    """Listed documents of each source by state."""
    counts: dict[str, dict[str, int]] = {}
    for source, state, count in session.execute(
        text("SELECT source, state, count(*) FROM listed GROUP BY source, state")
    ):
        counts.setdefault(source, {})[state] = count
    return counts


def weigh_sources(session: Session) -> dict[str, int]:
    """Bytes that the documents to be read count for (`plan.weigh`), by source."""
    rows = session.execute(
        text(
            """SELECT source, sum(greatest(:least, coalesce(size, :unknown)))::bigint AS weight FROM listed
               WHERE state IN ('added', 'changed') GROUP BY source ORDER BY source"""
        ),
        {"least": LEAST_BYTES, "unknown": UNKNOWN_BYTES},
    )
    return {row.source: row.weight for row in rows}


def list_to_read(session: Session, source: str) -> Iterator[ToRead]:
    """The source's documents that are to be read, streamed, by URI."""
    rows = staging.stream(
        session,
        """SELECT uri, source, key, fingerprint, size, media_type, place, damaged FROM listed
           WHERE source = :source AND state IN ('added', 'changed') ORDER BY uri COLLATE "C\"""",
        source=source,
    )
    return (ToRead(*row) for row in rows)


def list_gone(session: Session) -> Iterator[Gone]:
    """What is gone, streamed, by URI."""
    rows = staging.stream(
        session, """SELECT uri, source, content_hash, seems_moved FROM gone ORDER BY uri COLLATE "C\""""
    )
    return (Gone(*row) for row in rows)


def list_quarantined(session: Session) -> Iterator[Problem]:
    """The problems of documents that are as they were when they could not be read."""
    rows = session.execute(
        text(
            """SELECT DISTINCT p.uri, p.message, p.fingerprint FROM knowledge_problems p
               JOIN listed l ON l.uri = p.uri AND l.fingerprint = p.fingerprint WHERE l.state = 'quarantined'"""
        )
    )
    return (Problem(uri, message, fingerprint=fingerprint) for uri, message, fingerprint in rows)


def list_lost(session: Session) -> list[tuple[str, int]]:
    """Damaged documents that are not to be read in this run, and how many chunks the store lost of each."""
    rows = session.execute(
        text(
            """SELECT m.uri, m.lost FROM damaged m LEFT JOIN listed l ON l.uri = m.uri
               WHERE l.state IS NULL OR l.state NOT IN ('added', 'changed') ORDER BY m.uri"""
        )
    )
    return [(uri, lost) for uri, lost in rows]


def make_reference(row: ToRead) -> Reference:
    """The reference as its connector listed it."""
    return Reference(row.uri, row.source, row.key, row.fingerprint, row.size, row.media_type, row.place)
