"""The switch of a run: in one transaction the ledger goes from the old documents to the new ones.

It knows no store: what is superseded is only noted in the journal here, to be deleted afterwards.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pyarrow as pa
from sqlalchemy import text
from sqlalchemy.orm import Session

from deployments.ingest import staging
from deployments.ingest.model import Problem
from deployments.ingest.plan import Loss, withhold_removals
from shared.ledger.models import utc_now

_NOTHING = {"added": 0, "changed": 0, "moved": 0, "repaired": 0, "removed": 0, "withheld": 0, "duplicates": 0}


@dataclass
class Change:
    """What a switch changed, in all and by source, and the removals that wait for a person."""

    counts: dict[str, int] = field(default_factory=lambda: dict(_NOTHING))
    sources: dict[str, dict[str, int]] = field(default_factory=dict)
    withheld: list[Problem] = field(default_factory=list)

    def add(self, source: str, name: str, count: int) -> None:
        """Count something of a source."""
        if count:
            self.counts[name] = self.counts.get(name, 0) + count
            mine = self.sources.setdefault(source, {})
            mine[name] = mine.get(name, 0) + count

    @property
    def changed(self) -> bool:
        """Whether the knowledge base is another one."""
        return any(self.counts[name] for name in ("added", "changed", "moved", "removed"))


def stage_opened(
    session: Session,
    run: str,
    documents: Iterable[pa.Table],
    loaded: Iterable[pa.Table],
    gone: Iterable[pa.Table],
) -> None:
    """Put what was opened, loaded and found gone beside the ledger; what an earlier try committed is left out."""
    staging.create_table(
        session,
        "opened",
        """uri text, source text, key text, fingerprint text, content_hash text, known boolean, title text, size bigint,
           chunks integer, recipe text, media_type text, language text, author text, dated date, place text,
           notes jsonb""",
    )
    staging.fill_table(session, "opened", documents)
    staging.create_table(session, "loaded", "uri text, content_hash text, recipe text")
    staging.fill_table(session, "loaded", loaded)
    staging.create_table(
        session, "gone", "uri text, source text, content_hash text, seems_moved boolean, new_uri text"
    )
    staging.fill_table(session, "gone", gone)
    for table in ("opened", "loaded", "gone"):
        staging.analyze(session, table)
    # What was loaded counts as it was read last.
    session.execute(
        text(
            """CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS
               SELECT o.*, d.uri IS NOT NULL AS replaces, CAST(NULL AS text) AS moved_from,
                 d.uri IS NULL OR (d.content_hash, d.recipe, d.chunks) <> (o.content_hash, o.recipe, o.chunks) AS is_new
               FROM (SELECT DISTINCT ON (uri) * FROM opened WHERE NOT known) o
               JOIN (SELECT DISTINCT uri, content_hash, recipe FROM loaded) l USING (uri, content_hash, recipe)
               LEFT JOIN document_versions d ON d.uri = o.uri AND d.superseded_at IS NULL
               WHERE d.uri IS NULL OR d.ingest_run <> :run
                 OR (d.content_hash, d.recipe, d.chunks) <> (o.content_hash, o.recipe, o.chunks)"""
        ),
        {"run": run},
    )
    session.execute(
        text(
            """DELETE FROM gone WHERE NOT EXISTS
               (SELECT 1 FROM document_versions d WHERE d.uri = gone.uri AND d.superseded_at IS NULL)"""
        )
    )


def switch(
    session: Session, run: str, texts: Iterable[pa.Table], accepted: Collection[str], share: float
) -> Change:
    """Make what was staged current; the superseded versions are in the journal then."""
    change = Change()
    _find_moves(session)
    change.withheld = _withhold(session, change, accepted, share)
    _count(session, change)
    values = {"run": run, "now": utc_now()}
    session.execute(
        text(
            """CREATE TEMPORARY TABLE leaving ON COMMIT DROP AS
               SELECT uri FROM gone UNION SELECT uri FROM fresh WHERE is_new AND replaces"""
        )
    )
    session.execute(
        text(
            """INSERT INTO pending_writes (uri, content_hash, recipe, chunks, ingest_run, at)
               SELECT d.uri, d.content_hash, d.recipe, d.chunks, :run, :now
               FROM document_versions d JOIN leaving USING (uri) WHERE d.superseded_at IS NULL
               ON CONFLICT (uri, content_hash, recipe) DO UPDATE
                 SET chunks = greatest(pending_writes.chunks, excluded.chunks)"""
        ),
        values,
    )
    session.execute(
        text(
            """UPDATE document_versions d SET superseded_at = :now, superseded_by_run = :run
               FROM leaving WHERE d.uri = leaving.uri AND d.superseded_at IS NULL"""
        ),
        values,
    )
    session.execute(
        text(
            """INSERT INTO document_versions (uri, source, title, content_hash, size, chunks, recipe, media_type,
                 language, author, dated, place, notes, moved_from, ingest_run, ingested_at)
               SELECT uri, source, title, content_hash, size, chunks, recipe, media_type, language, author, dated,
                 place, notes, moved_from, :run, :now
               FROM fresh WHERE is_new ORDER BY uri"""
        ),
        values,
    )
    _keep_texts(session, texts)
    _keep_references(session)
    _count_duplicates(session, change)
    return change


def _find_moves(session: Session) -> None:
    """The same content under another URI has moved; what only seemed to have stays until the next run."""
    session.execute(
        text(
            """UPDATE fresh SET moved_from = pair.old
               FROM (SELECT o.uri AS old, n.uri AS new
                     FROM (SELECT uri, content_hash, row_number() OVER (PARTITION BY content_hash ORDER BY uri) AS n
                           FROM gone) o
                     JOIN (SELECT uri, content_hash, row_number() OVER (PARTITION BY content_hash ORDER BY uri) AS n
                           FROM fresh WHERE NOT replaces) n USING (content_hash, n)) pair
               WHERE fresh.uri = pair.new"""
        )
    )
    session.execute(text("UPDATE gone SET new_uri = fresh.uri FROM fresh WHERE fresh.moved_from = gone.uri"))
    session.execute(text("DELETE FROM gone WHERE seems_moved AND new_uri IS NULL"))


def _withhold(session: Session, change: Change, accepted: Collection[str], share: float) -> list[Problem]:
    """Take out of `gone` what waits for a person."""
    if not session.execute(text("SELECT EXISTS (SELECT 1 FROM gone WHERE new_uri IS NULL)")).scalar():
        return []
    losses = {
        source: Loss(had)
        for source, had in session.execute(
            text("SELECT source, count(*) FROM document_versions WHERE superseded_at IS NULL GROUP BY source")
        )
    }
    total = sum(loss.had for loss in losses.values())
    for source, uri, content_hash in staging.stream(
        session,
        """SELECT source, uri, content_hash FROM gone WHERE new_uri IS NULL ORDER BY uri COLLATE "C\"""",
    ):
        losses[source].add(uri, content_hash)
    waiting = withhold_removals(losses, total, accepted, share)
    session.execute(
        text("DELETE FROM gone WHERE new_uri IS NULL AND source = ANY(cast(:sources AS text[]))"),
        {"sources": list(waiting)},
    )
    for source in waiting:
        change.add(source, "withheld", losses[source].gone)
    return list(waiting.values())


def _count(session: Session, change: Change) -> None:
    rows = session.execute(
        text(
            """SELECT source, CASE WHEN NOT is_new THEN 'repaired' WHEN replaces THEN 'changed'
                 WHEN moved_from IS NULL THEN 'added' ELSE 'moved' END AS what, count(*), sum(chunks)
               FROM fresh GROUP BY 1, 2
               UNION ALL SELECT source, 'removed', count(*), 0 FROM gone WHERE new_uri IS NULL GROUP BY 1"""
        )
    )
    for source, what, count, chunks in rows:
        change.add(source, what, count)
        change.add(source, "chunks", int(chunks))


def _keep_texts(session: Session, tables: Iterable[pa.Table]) -> None:
    """The texts of what is current now, so that versions can be compared and split anew."""
    columns = "content_hash text, extractor text, text text, markdown boolean, title text, pages jsonb"
    for table in tables:
        staging.create_table(session, "read_texts", columns)
        staging.fill_table(session, "read_texts", [table])
        session.execute(
            text(
                """INSERT INTO document_texts (content_hash, extractor, text, markdown, title, pages, created_at)
                   SELECT DISTINCT ON (content_hash, extractor)
                     content_hash, extractor, text, markdown, title, pages, :now
                   FROM read_texts t WHERE EXISTS (SELECT 1 FROM fresh f WHERE f.content_hash = t.content_hash)
                   ON CONFLICT DO NOTHING"""
            ),
            {"now": utc_now()},
        )


def _keep_references(session: Session) -> None:
    """As long as a source shows a document like this, it is not read again."""
    session.execute(
        text(
            """INSERT INTO document_references (uri, source, key, fingerprint, content_hash, checked_at)
               SELECT uri, source, key, fingerprint, content_hash, :now FROM fresh
               UNION ALL
               SELECT DISTINCT ON (o.uri) o.uri, o.source, o.key, o.fingerprint, o.content_hash, :now
               FROM opened o JOIN document_versions d
                 ON d.uri = o.uri AND d.superseded_at IS NULL AND d.content_hash = o.content_hash
               WHERE o.known
               ON CONFLICT (uri) DO UPDATE SET source = excluded.source, key = excluded.key,
                 fingerprint = excluded.fingerprint, content_hash = excluded.content_hash,
                 checked_at = excluded.checked_at"""
        ),
        {"now": utc_now()},
    )
    session.execute(text("DELETE FROM document_references r USING gone WHERE r.uri = gone.uri"))


def _count_duplicates(session: Session, change: Change) -> None:
    """New documents whose content another document has, too."""
    rows = session.execute(
        text(
            """SELECT f.source, count(DISTINCT f.uri) FROM fresh f JOIN document_versions d
                 ON d.content_hash = f.content_hash AND d.uri <> f.uri AND d.superseded_at IS NULL
               WHERE f.is_new AND (d.uri < f.uri OR NOT EXISTS
                 (SELECT 1 FROM fresh other WHERE other.uri = d.uri AND other.is_new))
               GROUP BY f.source"""
        )
    )
    for source, count in rows:
        change.add(source, "duplicates", count)
