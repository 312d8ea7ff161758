"""Writes a run's plan: what is to be read, in batches, what is gone, which problems are known already.

It decides nothing: what is to be read is found in the ledger, how it is put into batches is in `plan`.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy.orm import Session

from deployments.ingest import comparison, ledger, schemas, source_records, sync
from deployments.ingest.batches import Batch, Planned
from deployments.ingest.errors import KnowledgeError, OvertakenError
from deployments.ingest.handover import RunFiles
from deployments.ingest.ledger import Turn
from deployments.ingest.model import Problem, Source
from deployments.ingest.plan import (
    MAX_BATCHES,
    MAX_MAPPED,
    label_batch,
    limit_batch,
    make_batches,
    name_lost,
    name_source,
    weigh,
)
from shared.vectors.port import VectorStore


def check_listings(now: Turn | None, run: str, listings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises OvertakenError where another run planned since this one listed: it may have seen more."""
    if now is None or now.run == run:
        return
    if any(notes["turn"] != now.number for notes in listings.values()):
        raise OvertakenError(
            f"{run} was overtaken by {now.run}, which planned, or cleared the knowledge base, since this run listed "
            "its sources. Nothing was changed. The next run does what is left; `ghostwriter knowledge sync` starts one."
        )


def write_plan(
    session: Session,
    store: VectorStore,
    files: RunFiles,
    turn: Turn,
    sources: Sequence[Source],
    listings: Mapping[str, Mapping[str, Any]],
    accepted: Collection[str],
    began: float,
) -> Planned:
    """The plan's files, `plan.<turn>` last. Raises KnowledgeError where there is nothing at all to plan from."""
    documents, _ = ledger.count_current(session)
    if not sources and not documents:
        raise KnowledgeError(
            "There is no source: put documents into content/knowledge/<source>/, or declare a source in "
            "content/sources.toml."
        )
    gone_sources = set(files.read_notes("declarations")["gone"])
    failed = [source.name for source in sources if source.name not in listings]
    hidden = source_records.list_source_names(session) - {source.name for source in sources} - gone_sources
    declared = [schemas.row_to_problem(row) for row in files.read("declarations")]
    unlisted = [problem for name in sorted(listings) for problem in _read_problems(files, name)]
    problems = [
        *declared,
        *unlisted,
        *comparison.stage_listing(
            session, _read_listings(files, listings), sync.find_damaged(store, session)
        ),
    ]
    comparison.stage_gone(session, [*failed, *hidden], [problem.uri for problem in unlisted])
    with files.write(f"gone.{turn.number}", schemas.GONE) as writer:
        for gone in comparison.list_gone(session):
            writer.add(gone._asdict())
    problems += _keep_problems(session, failed)
    lost = comparison.list_lost(session)
    problems = name_lost(problems, (uri for uri, _ in lost))
    files.write_rows(f"kept.{turn.number}", schemas.PROBLEMS, [schemas.problem_to_row(p) for p in problems])
    batches = _write_batches(session, files, turn, sources)
    counts = {
        **comparison.count_states(session), "problems": len(problems), "failed_sources": len(failed),
    }  # fmt: skip
    notes = {
        "accepted": sorted(accepted),
        "batches": {name: len(made) for name, made in batches.items()},
        "counts": counts,
        "sources": comparison.count_states_by_source(session),
        "seconds": {
            "scan": sum(notes["seconds"] for notes in listings.values()),
            "plan": time.monotonic() - began,
        },
    }
    rows = [{"uri": uri, "lost": count} for uri, count in lost]
    files.write_rows(f"plan.{turn.number}", schemas.LOST, rows, notes)
    by_connector: dict[str, list[Batch]] = {}
    for source in sources:
        if source.name in batches:
            by_connector.setdefault(source.connector, []).extend(batches[source.name])
    return {"counts": counts, "batches": by_connector}


def _read_listings(files: RunFiles, names: Collection[str]) -> Iterator[pa.Table]:
    for name in sorted(names):
        yield from files.read_tables(f"scan.{name}")


def _read_problems(files: RunFiles, source: str) -> Iterator[Problem]:
    return map(schemas.row_to_problem, files.read(f"unlisted.{source}"))


def _keep_problems(session: Session, failed: Sequence[str]) -> Iterator[Problem]:
    """Problems of documents that are not looked at in this run, and of sources that could not be."""
    yield from comparison.list_quarantined(session)
    errors = source_records.read_source_errors(session, failed)
    for name in failed:
        message = errors.get(name) or "it was not listed in this run: the log says why"
        yield Problem(name_source(name), f"{message}; its documents stay as they are")
    folders = tuple(f"{name_source(name)}/" for name in failed)
    yield from (p for p in ledger.read_problems(session) if folders and p.uri.startswith(folders))


def _write_batches(
    session: Session, files: RunFiles, turn: Turn, sources: Sequence[Source]
) -> dict[str, list[Batch]]:
    """The files `listed.<turn>.<source>`, a row group a batch; the batches by source."""
    weights = comparison.weigh_sources(session)
    connectors = {source.name: source.connector for source in sources}
    beside = {name: sum(connectors[other] == connectors[name] for other in weights) for name in weights}
    made: dict[str, list[Batch]] = {}
    for source, weight in weights.items():
        limit = limit_batch(weight, min(MAX_BATCHES, MAX_MAPPED // beside[source]))
        made[source] = []
        with files.write(f"listed.{turn.number}.{source}", schemas.PLANNED) as writer:
            for part in make_batches(comparison.list_to_read(session, source), limit):
                writer.end_group([row._asdict() for row in part])
                made[source].append(
                    Batch(
                        source=source,
                        number=len(made[source]),
                        turn=turn.number,
                        label=label_batch(source, part),
                        documents=len(part),
                        bytes=sum(weigh(row.size) for row in part),
                        counts={},
                    )
                )
    return made
