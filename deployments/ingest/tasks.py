"""What each task of the ingest Dags does, as one plain function; the first argument is what it works with.

They know no Airflow; the Dag files call them. What passes between them by value is small: names, counts, batches. The
rest lies in the run's hand-over. An OvertakenError or KnowledgeError is final: trying the task again won't mend it.
"""

import logging
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final, TypedDict

from deployments.ingest import (
    commitment,
    ledger,
    listing,
    loading,
    planning,
    reading,
    schemas,
    source_records,
    sync,
)
from deployments.ingest.batches import Batch, Planned
from deployments.ingest.clearing import Request
from deployments.ingest.commitment import Outcome
from deployments.ingest.composition import Ingest
from deployments.ingest.connectors.port import SourceUnavailableError
from deployments.ingest.declarations import find_gone
from deployments.ingest.errors import KnowledgeError, OvertakenError
from deployments.ingest.handover import HandoverLostError
from deployments.ingest.ledger import Turn
from deployments.ingest.model import Problem, Source
from deployments.ingest.publication import publish_newest
from shared.ledger.models import utc_now

log = logging.getLogger(__name__)

__all__ = [
    "Batch", "Outcome", "Planned", "SourceEntry", "clear", "commit", "extract", "list_batches", "list_problems",
    "list_sources", "load", "plan", "publish", "record_failure", "scan", "survey",
]  # fmt: skip
SOURCES_AT_ONCE: Final = 4  # that are listed


class SourceEntry(TypedDict):
    """A source as the Dag maps over it."""

    name: str  # also the map index
    connector: str  # the arm that it belongs to


def list_sources(ingest: Ingest, run: str, *, reason: str = "") -> list[SourceEntry]:
    """Begin the run: read what sources are declared, and record them; a run that is cleared begins anew.

    `reason` says who or what asked for it, for people. Raises KnowledgeError.
    """
    sources, problems = ingest.list_sources()
    files = ingest.handover.open_run(run)
    files.remove()
    with ingest.sessions.begin() as session:
        ledger.begin_sync(session, run, reason)
        # What a mistake in a declaration hides is there still, and keeps its documents.
        gone = find_gone(source_records.list_source_names(session), sources, problems)
        source_records.declare_sources(session, sources, gone, run)
    rows = [schemas.problem_to_row(problem) for problem in problems]
    files.write_rows("declarations", schemas.PROBLEMS, rows, {"gone": sorted(gone)})
    files.write_rows("sources", schemas.SOURCES, [schemas.source_to_row(source) for source in sources])
    log.info("%d sources: %s", len(sources), ", ".join(source.name for source in sources))
    return [SourceEntry(name=source.name, connector=source.connector) for source in sources]


def survey(ingest: Ingest, run: str, *, reason: str = "") -> None:
    """Read what sources there are, and list them, several at once; one that can't be listed is recorded, and logged."""
    sources = list_sources(ingest, run, reason=reason)

    def try_scan(source: SourceEntry) -> None:
        try:
            scan(ingest, run, source)
        except SourceUnavailableError as error:
            log.error("%s can't be listed, and keeps its documents: %s", source["name"], error)
        except Exception:
            log.exception("%s can't be listed, and keeps its documents", source["name"])

    with ThreadPoolExecutor(SOURCES_AT_ONCE) as pool:
        list(pool.map(try_scan, sources))


def scan(ingest: Ingest, run: str, source: SourceEntry) -> dict[str, int]:
    """List a source into the hand-over; counts: documents, problems.

    Where it can't be listed whole, that is recorded and raised (SourceUnavailableError): the run goes on without it, so
    `plan` must not need every `scan` to succeed. Raises KnowledgeError where the run has no such source.
    """
    began = time.monotonic()
    files = ingest.handover.open_run(run)
    declared = {one.name: one for one in read_sources(ingest, run)}
    if source["name"] not in declared:
        raise KnowledgeError(f"This run knows no source `{source['name']}`: start a new run.")
    found: Source = declared[source["name"]]
    with ingest.sessions() as session:
        # What is planned by others after this moment is newer than this listing.
        turn = ledger.read_turn(session)
    notes = {"turn": turn.number if turn else 0}
    known = listing.KnownFingerprints(lambda: _read_known(ingest, found.name))
    try:
        with closing(ingest.connect(found)) as connector:
            counts = listing.write_listing(connector, found, known, files, notes)
    except Exception as error:
        message = f"{error}"[:1000] or type(error).__name__
        with ingest.sessions.begin() as session:
            source_records.record_listing(session, found.name, run, time.monotonic() - began, error=message)
        raise
    with ingest.sessions.begin() as session:
        source_records.record_listing(
            session, found.name, run, time.monotonic() - began, documents=counts["documents"]
        )
    log.info("%s: %s", found.name, counts)
    return counts


def _read_known(ingest: Ingest, source: str) -> dict[str, str]:
    with ingest.sessions() as session:
        return source_records.read_known(session, source)


def read_sources(ingest: Ingest, run: str) -> list[Source]:
    """The sources that the run began with. Raises KnowledgeError."""
    try:
        return [schemas.row_to_source(row) for row in ingest.handover.open_run(run).read("sources")]
    except HandoverLostError as error:
        raise KnowledgeError(str(error)) from error


def plan(ingest: Ingest, run: str, *, accepted: Collection[str] = ()) -> Planned:
    """Take the turn, compare what was listed with the ledger, write what is to be read into the hand-over.

    `accepted`: digests of removals that a person agreed to (`Problem.removal`). Sources without a whole listing keep
    their documents. Raises OvertakenError where another run planned since this one listed, and KnowledgeError.
    """
    began = time.monotonic()
    files = ingest.handover.open_run(run)
    sources = read_sources(ingest, run)
    listings = {
        one.name: files.read_notes(f"scan.{one.name}") for one in sources if files.exists(f"scan.{one.name}")
    }
    with ingest.sessions.begin() as session:
        planning.check_listings(ledger.lock_turn(session), run, listings)
        turn = ledger.take_turn(session, run)
        ledger.end_other_syncs(session, run)
    ingest.store.create_collection()  # a clearing may have dropped it
    with ledger.hold_turn(ingest.sessions, turn, shared=True) as session:
        planned = planning.write_plan(session, ingest.store, files, turn, sources, listings, accepted, began)
        ledger.record_sync(session, run, counts=planned["counts"], outcome="running", ended_at=None)
    files.write_rows(f"batches.{turn.number}", schemas.LOST, [], planned["batches"])
    log.info("plan: %s", planned["counts"])
    return planned


def list_batches(ingest: Ingest, run: str, connector: str) -> list[Batch]:
    """What the run's plan has for an arm. Raises KnowledgeError where there is no plan."""
    with ingest.sessions() as session:
        turn = ledger.read_turn(session)
    try:
        notes = ingest.handover.open_run(run).read_notes(f"batches.{turn.number if turn else 0}")
    except HandoverLostError as error:
        raise KnowledgeError(str(error)) from error
    return list(notes.get(connector, []))


def extract(ingest: Ingest, run: str, batch: Batch) -> Batch:
    """Open, extract and split a batch's documents into the hand-over; the batch with its counts.

    A document that can't be read is a problem of its own; one that is gone waits for the next run. Raises
    SourceUnavailableError, OvertakenError.
    """
    check_turn(ingest, run, batch)
    (source,) = (one for one in read_sources(ingest, run) if one.name == batch["source"])
    with closing(ingest.connect(source)) as connector:
        counts = reading.write_batch(ingest, connector, ingest.handover.open_run(run), batch)
    log.info("%s: %s", batch["label"], counts)
    return {**batch, "counts": counts}


def load(ingest: Ingest, run: str, batch: Batch) -> dict[str, int]:
    """Embed what was never embedded, write the batch's chunks and verify them; counts: written, embedded, reused.

    Raises OvertakenError, LlmError (LlmRefusedError: trying again won't mend it), VectorStoreError, SyncError.
    """
    check_turn(ingest, run, batch)
    counts = loading.load_batch(ingest, ingest.handover.open_run(run), batch, Turn(batch["turn"], run))
    log.info("%s: %s", batch["label"], counts)
    return counts


def check_turn(ingest: Ingest, run: str, batch: Batch) -> None:
    """Raises OvertakenError where the work would be in vain."""
    with ingest.sessions() as session:
        ledger.check_turn(ledger.read_turn(session), Turn(batch["turn"], run))


def commit(ingest: Ingest, run: str) -> Outcome:
    """Switch to what was loaded, in one transaction; then delete what is superseded, and compare with the store.

    Runs whatever became of the tasks before it; done again it changes nothing and says the same. Raises
    IncompleteSyncError where planned documents were not loaded, other SyncErrors, OvertakenError, KnowledgeError.
    """
    try:
        return commitment.commit_run(ingest, run)
    except OvertakenError:
        with ingest.sessions.begin() as session:
            ledger.end_sync(session, run, "overtaken")
        raise


def list_problems(ingest: Ingest) -> list[Problem]:
    """What can't be used now, by URI; those with a `removal` wait for a person to accept it."""
    with ingest.sessions() as session:
        return ledger.read_problems(session)


def publish(ingest: Ingest, lineage: Mapping[str, str]) -> str | None:
    """Tell the training deployment of the newest version unless it knows; its digest, or None."""
    return publish_newest(ingest.sessions, ingest.training, lineage)


def clear(ingest: Ingest, run: str, request: Request) -> int:
    """Empty the knowledge base; how many documents it had. Raises OutdatedRequestError."""
    return sync.clear(ingest.store, ingest.sessions, request, run)


def record_failure(ingest: Ingest, run: str) -> None:
    """Note that the run failed for good, unless it has an outcome; for the Dag's failure callback."""
    with ingest.sessions.begin() as session:
        ledger.end_sync(session, run, "failed")
    log.warning("%s failed at %s", run, utc_now())
