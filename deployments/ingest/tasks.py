"""What each task of the ingest Dags does, as one plain function; the first argument is what it works with.

They know no Airflow; the Dag files call them. What passes between them by value is small: names, counts, batches. The
rest lies in the run's hand-over. An OvertakenError or KnowledgeError is final: trying the task again won't mend it.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypedDict

from deployments.ingest.clearing import Request
from deployments.ingest.composition import Ingest
from deployments.ingest.model import Problem
from deployments.ingest.sync import Outcome


class SourceEntry(TypedDict):
    """A source as the Dag maps over it."""

    name: str  # also the map index
    connector: str  # the arm that it belongs to


class Batch(TypedDict):
    """Documents of one source that one mapped task reads or writes; which ones is in the hand-over."""

    source: str
    number: int
    turn: int  # of the plan that made it
    label: str  # "guides: assets.md … triggers.md (12)", the map index; at most 250 characters
    documents: int
    bytes: int
    counts: dict[str, int]  # of what `extract` found: documents, chunks, unchanged, problems, gone


class Planned(TypedDict):
    """What `plan` came to."""

    counts: dict[str, int]  # to_read, unchanged, moved, removed, withheld, quarantined, problems, failed_sources
    batches: dict[str, list[Batch]]  # by connector, those with nothing to read left out


def list_sources(ingest: Ingest, run: str, *, reason: str = "") -> list[SourceEntry]:
    """Begin the run: read what sources are declared, and record them; a run that is cleared begins anew.

    `reason` says who or what asked for it, for people. Raises KnowledgeError.
    """
    raise NotImplementedError


def scan(ingest: Ingest, run: str, source: SourceEntry) -> dict[str, int]:
    """List a source into the hand-over; counts: documents, problems.

    Where it can't be listed whole, that is recorded and raised (SourceUnavailableError): the run goes on without it, so
    `plan` must not need every `scan` to succeed. Raises KnowledgeError where the run has no such source.
    """
    raise NotImplementedError


def plan(ingest: Ingest, run: str, *, accepted: Collection[str] = ()) -> Planned:
    """Take the turn, compare what was listed with the ledger, write what is to be read into the hand-over.

    `accepted`: digests of removals that a person agreed to (`Problem.removal`). Sources without a whole listing keep
    their documents. Raises OvertakenError where another run planned since this one listed, and KnowledgeError.
    """
    raise NotImplementedError


def extract(ingest: Ingest, run: str, batch: Batch) -> Batch:
    """Open, extract and split a batch's documents into the hand-over; the batch with its counts.

    A document that can't be read is a problem of its own; one that is gone waits for the next run. Raises
    SourceUnavailableError, OvertakenError.
    """
    raise NotImplementedError


def load(ingest: Ingest, run: str, batch: Batch) -> dict[str, int]:
    """Embed what was never embedded, write the batch's chunks and verify them; counts: written, embedded, reused.

    Raises OvertakenError, LlmError (LlmRefusedError: trying again won't mend it), VectorStoreError, SyncError.
    """
    raise NotImplementedError


def commit(ingest: Ingest, run: str) -> Outcome:
    """Switch to what was loaded, in one transaction; then delete what is superseded, and compare with the store.

    Runs whatever became of the tasks before it; done again it changes nothing and says the same. Raises
    IncompleteSyncError where planned documents were not loaded, other SyncErrors, OvertakenError, KnowledgeError.
    """
    raise NotImplementedError


def list_problems(ingest: Ingest) -> list[Problem]:
    """What can't be used now, by URI; those with a `removal` wait for a person to accept it."""
    raise NotImplementedError


def publish(ingest: Ingest, lineage: Mapping[str, str]) -> str | None:
    """Tell the training deployment of the newest version unless it knows; its digest, or None."""
    raise NotImplementedError


def clear(ingest: Ingest, run: str, request: Request) -> int:
    """Empty the knowledge base; how many documents it had. Raises OutdatedRequestError."""
    raise NotImplementedError


def record_failure(ingest: Ingest, run: str, error: str) -> None:
    """Note that the run failed for good, unless it has an outcome; for the Dag's failure callback. Never raises."""
    raise NotImplementedError


__all__ = [
    "Any", "Batch", "Planned", "SourceEntry", "clear", "commit", "extract", "list_problems", "list_sources", "load",
    "plan", "publish", "record_failure", "scan",
]  # fmt: skip
