"""Ends a run: switches the ledger, takes back what is superseded, compares with the store, records the outcome.

It knows no Airflow.
"""

import logging
import time
from dataclasses import dataclass, field

from sqlalchemy import text
from sqlalchemy.orm import Session

from deployments.ingest import ledger, switch, sync
from deployments.ingest.batches import PlanFiles, Yield
from deployments.ingest.composition import Ingest
from deployments.ingest.errors import IncompleteSyncError, KnowledgeError, SyncError
from deployments.ingest.handover import RunFiles
from deployments.ingest.ledger import Turn
from deployments.ingest.model import Problem
from shared.knowledge import find_newest_version
from shared.ledger.models import KnowledgeSync, utc_now

log = logging.getLogger(__name__)

COMPLETE = ("nothing_new", "changed")
SHOWN = 10  # URIs in a message


@dataclass(frozen=True)
class Outcome:
    """What a run came to, and how the knowledge base is now."""

    written: int  # documents
    removed: int
    digest: str
    documents: int
    chunks: int
    # added, changed, moved, repaired, removed, unchanged, duplicates, quarantined, withheld, chunks, embedded, reused
    counts: dict[str, int] = field(default_factory=dict)


def commit_run(ingest: Ingest, run: str) -> Outcome:
    """See `tasks.commit`."""
    began = time.monotonic()
    files = ingest.handover.open_run(run)
    with ingest.sessions() as session:
        turn, state = ledger.read_turn(session), ledger.read_sync(session, run)
    if turn is None or turn.run != run:
        if state is not None and (state.outcome != "running" or files.list_names("plan.")):
            ledger.check_turn(turn, Turn(0, run))
        raise _lack_plan()
    if state is not None and state.outcome in COMPLETE:
        # Killed, or cleared, after the switch: what is left to do is done, while the turn still holds.
        lost = PlanFiles.read(files, turn.number).read_lost() if files.exists(f"plan.{turn.number}") else {}
        return _settle(ingest, turn, files, lost)
    if not files.exists(f"plan.{turn.number}"):
        raise _lack_plan()
    planned = PlanFiles.read(files, turn.number)
    came = planned.weigh()
    with ledger.hold_turn(ingest.sessions, turn) as session:
        _switch(session, ingest, turn, planned, came, began)
    outcome = _settle(ingest, turn, files, planned.read_lost(), came)
    log.info("%s", outcome)
    return outcome


def _lack_plan() -> KnowledgeError:
    return KnowledgeError(
        "This run has no plan, so nothing was changed: its task `plan` says why. Once it is mended, clear all tasks of "
        "this run, or start a new one."
    )


def _switch(
    session: Session, ingest: Ingest, turn: Turn, planned: PlanFiles, came: Yield, began: float
) -> None:
    """The one transaction after which the new documents are the knowledge base."""
    session.execute(text("SET LOCAL statement_timeout = '600s'"))
    switch.stage_opened(
        session,
        turn.run,
        planned.read_tables("documents"),
        planned.read_tables("loaded"),
        planned.files.read_tables(f"gone.{turn.number}"),
    )
    change = switch.switch(
        session, turn.run, planned.read_tables("texts"), planned.notes["accepted"], ingest.removal_share
    )
    kept = [problem for problem in ledger.read_problems(session) if problem.uri in came.missing]
    problems: list[Problem] = [*planned.read_problems(), *change.withheld, *came.problems, *kept]
    ledger.replace_problems(session, problems, turn.run)
    if change.changed:
        ledger.add_version(session, turn.run)
    state = ledger.read_sync(session, turn.run)
    before = state.counts if state is not None and state.outcome == "incomplete" else {}
    counts = ledger.sum_counts({name: before.get(name, 0) for name in change.counts}, change.counts)
    unchanged = planned.notes["counts"]["unchanged"] + came.counts.get("unchanged", 0)
    counts |= {
        "chunks": counts.get("chunks", 0),
        "unchanged": unchanged,
        "quarantined": sum(bool(problem.fingerprint) for problem in problems),
        "embedded": came.counts.get("embedded", 0),
        "reused": came.counts.get("reused", 0),
        "missing": len(came.missing),
    }
    happened = any(counts[name] for name in ("added", "changed", "moved", "repaired", "removed"))
    outcome = "incomplete" if came.missing else "changed" if happened else "nothing_new"
    seconds = {step: round(spent, 3) for step, spent in came.seconds.items()}
    sources = {
        name: ledger.sum_counts({"unchanged": states.get("unchanged", 0)}, change.sources.get(name, {}))
        for name, states in planned.notes["sources"].items()
    } | {name: found for name, found in change.sources.items() if name not in planned.notes["sources"]}
    seconds["commit"] = round(time.monotonic() - began, 3)
    ledger.record_sync(session, turn.run, outcome=outcome, counts=counts, sources=sources, seconds=seconds)


def _settle(
    ingest: Ingest, turn: Turn, files: RunFiles, lost: dict[str, int], came: Yield | None = None
) -> Outcome:
    """What a kill after the switch leaves to do: nobody reads what is taken back here."""
    sync.mend(ingest.store, ingest.sessions, turn)
    sync.take_back(ingest.store, ingest.sessions, turn)
    try:
        sync.reconcile(ingest.store, ingest.sessions, turn, known=lost.keys(), lost=sum(lost.values()))
    except SyncError:
        with ingest.sessions.begin() as session:
            ledger.record_sync(session, turn.run, outcome="incomplete", ended_at=utc_now())
        raise
    with ledger.hold_turn(ingest.sessions, turn) as session:
        state = ledger.read_sync(session, turn.run)
        if state is not None and state.ended_at is None:
            ledger.record_sync(session, turn.run, ended_at=utc_now())
        outcome = _describe(session, state)
    if came is not None and came.missing:
        shown = ", ".join(sorted(came.missing)[:SHOWN])
        raise IncompleteSyncError(
            f"{outcome.written} documents are in, {len(came.missing)} are not, or in their earlier version: {shown}. "
            "The failed tasks of this run say why; the next run tries again"
        )
    files.remove()
    ingest.handover.remove_old()
    return outcome


def _describe(session: Session, state: KnowledgeSync | None) -> Outcome:
    counts = dict(state.counts) if state is not None else {}
    documents, chunks = ledger.count_current(session)
    newest = find_newest_version(session)
    return Outcome(
        written=sum(counts.get(name, 0) for name in ("added", "changed", "moved", "repaired")),
        removed=counts.get("removed", 0),
        digest=newest.digest if newest else ledger.compute_digest(session),
        documents=documents,
        chunks=chunks,
        counts=counts,
    )
