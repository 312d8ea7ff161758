"""What each task of the ingest Dags does, as plain functions over the settings.

They know no Airflow; the Dag files call them.
"""

import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deployments.ingest import composition, ledger, sync
from deployments.ingest.batches import RunFolder
from deployments.ingest.clearing import Request
from deployments.ingest.formats.registry import find_extractor
from deployments.ingest.ledger import Turn
from deployments.ingest.model import Extraction
from deployments.ingest.plan import find_late_sources, make_batches, plan_removals, plan_sync
from deployments.ingest.publication import publish_newest
from deployments.ingest.sources import (
    KnowledgeError,
    Problem,
    SourceDocument,
    list_sources,
    read_document,
    scan_sources,
)
from deployments.ingest.splitting import split as split_extraction
from shared.contracts import chunk_id
from shared.settings import Settings

log = logging.getLogger(__name__)

Batch = dict[str, Any]
PLAN, READ, GONE, WRITTEN, DONE = "plan", "read", "gone", "written", "done"
CHUNKS_AT_ONCE = 1000
"""Chunks held in memory with their vectors; a document of more is still taken as a whole."""


class SourceNotPlannedError(KnowledgeError):
    """The run's plan doesn't hold this source: its folder became known later, and the next run reads it."""


def collection_exists(settings: Settings) -> bool:
    """Whether there is a collection to write to."""
    with composition.open_store(settings) as store:
        return store.collection_exists()


def create_collection(settings: Settings) -> None:
    """Create it."""
    with composition.open_store(settings) as store:
        store.create_collection()


def plan(
    settings: Settings,
    run_id: str,
    *,
    accepted: Collection[str] = frozenset(),
    arms: Collection[str] | None = None,
) -> dict[str, int]:
    """Take the turn, write the plan to the run's folder, which is emptied first, and the problems to the ledger.

    `accepted`: digests of removals that may go at once. `arms`: sources that have tasks in this run, None for all.
    Its counts. Raises KnowledgeError.
    """
    run = RunFolder(settings.state_dir, run_id)
    run.empty()
    documents, problems = scan_sources(composition.knowledge_dir(settings))
    arms = list_sources(composition.knowledge_dir(settings)) if arms is None else arms
    sessions = composition.create_ledger(settings)
    with sessions.begin() as session:
        turn = ledger.take_turn(session, run_id)
        current = ledger.read_current(session)
    with composition.open_store(settings) as store:
        store.create_collection()  # a clearing may have dropped it since the Dag looked
        damaged = sync.find_damaged(store, current)
    if damaged:
        log.warning(
            "store: %d documents lost chunks and are written again, where they can be read", len(damaged)
        )
    withheld = plan_removals(documents, problems, current, accepted).withheld
    named = [*problems, *withheld, *find_late_sources(documents, current, arms)]
    try:
        planned = plan_sync(documents, problems, current, damaged=damaged, accepted=accepted, arms=arms)
        lost = damaged - {d.uri for d in planned.to_write} - set(planned.removed)
        named = sync.name_lost(named, lost)
    finally:  # where no file can be used, the problems say why
        with sync.hold_turn(sessions, turn) as session:
            ledger.replace_problems(session, named, run_id)
    paths = [{**asdict(d), "path": str(d.path)} for d in planned.to_write]
    handed = {"turn": turn.number, "write": paths, "removed": planned.removed, "lost": sorted(lost)}
    run.write(PLAN, [{**handed, "arms": sorted(arms)}])
    log.info("plan: %s, %d problems", planned.summarize(), len(named))
    return {**planned.summarize(), "problems": len(named)}


def list_problems(settings: Settings) -> list[Problem]:
    """Files and folders that the latest plan could not use."""
    with composition.create_ledger(settings)() as session:
        return ledger.read_problems(session)


def extract(settings: Settings, run_id: str, source: str) -> list[Batch]:
    """Read a source's new and changed files, as they are now, into batches; how they are named and what they hold.

    A file that was removed or spoilt since the plan keeps its earlier version until the next run. Raises
    SourceNotPlannedError for a source that joined the run after its plan: `commit` may be over already.
    """
    run = RunFolder(settings.state_dir, run_id)
    if not run.list_names(PLAN) or source not in (handed := next(iter(run.read(PLAN))))["arms"]:
        raise SourceNotPlannedError(
            f"This run has no plan for `{source}`: Airflow learned of the folder later, or the run is over. "
            "The next run reads it."
        )
    planned = [SourceDocument(**{**row, "path": Path(row["path"])}) for row in handed["write"]]
    documents: list[SourceDocument] = []
    gone: list[str] = []
    folder = (composition.knowledge_dir(settings) / source).resolve()
    for found in (read_document(source, d.path, d.uri, folder) for d in planned if d.source == source):
        if isinstance(found, SourceDocument):
            documents.append(found)
        else:
            gone.append(found.uri)
            log.warning("%s changed while this run was at work: %s", found.uri, found.message)
    known = {document.uri: document for document in documents}
    batches: list[Batch] = []
    read: list[dict[str, str]] = []
    for made in make_batches(documents):
        batch: Batch = {**made, "source": source, "turn": handed["turn"]}
        run.write(name(batch, "extract"), _read_rows((known[uri] for uri in batch["uris"]), read))
        batches.append(batch)
    run.write(f"{READ}.{handed['turn']}.{source}", read)
    run.write(f"{GONE}.{handed['turn']}.{source}", gone)
    log.info("%s: %d documents in %d batches", source, len(documents), len(batches))
    return batches


def _read_rows(documents: Iterable[SourceDocument], read: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """The documents' rows one by one; `read` notes which content each had."""
    for document in documents:
        row = _read_row(document)
        read.append({key: row["document"][key] for key in ("uri", "content_hash")})
        yield row


def _read_row(document: SourceDocument) -> dict[str, Any]:
    """A document with its text; the hash is of the very bytes that the text is from."""
    content = document.path.read_bytes()
    extraction = find_extractor(document.path.name, "", content).extract(content, document.path.name)
    return {
        "document": {
            **asdict(document),
            "path": str(document.path),
            "title": extraction.title or document.path.stem,
            "content_hash": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        },
        "text": extraction.text,
        "markdown": extraction.markdown,
    }


def split(settings: Settings, run_id: str, batch: Batch) -> int:
    """Split the batch's texts; how many chunks."""
    run = RunFolder(settings.state_dir, run_id)
    run.write(name(batch, "split"), map(_split_row, run.read(name(batch, "extract"))))
    return sum(row["document"]["chunks"] for row in run.read(name(batch, "split")))


def _split_row(row: dict[str, Any]) -> dict[str, Any]:
    document = row["document"]
    passages = split_extraction(Extraction(row["text"], row["markdown"], document["title"]))
    chunks = [
        {
            "id": chunk_id(document["uri"], document["content_hash"], position),
            "uri": document["uri"],
            "content_hash": document["content_hash"],
            "position": position,
            "source": document["source"],
            "title": document["title"],
            "heading": " › ".join(passage.headings),
            "text": passage.text,
            "page": passage.page,
            "start": passage.start,
            "end": passage.end,
        }
        for position, passage in enumerate(passages)
    ]
    written: dict[str, Any] = {
        key: document[key] for key in ("uri", "source", "title", "content_hash", "size")
    }
    return {"document": {**written, "chunks": len(chunks)}, "chunks": chunks}


def prepare(settings: Settings, run_id: str, batch: Batch) -> int:
    """Embed the batch's chunks, title and heading included; how many."""
    run = RunFolder(settings.state_dir, run_id)
    llm = composition.create_llm(settings)
    count = 0

    def embed() -> Iterator[dict[str, Any]]:
        nonlocal count
        for rows in _group(run.read(name(batch, "split"))):
            texts = [
                "\n".join(filter(None, (c["title"], c["heading"], c["text"])))
                for row in rows
                for c in row["chunks"]
            ]
            vectors = iter(llm.embed(settings.embedding_model, texts))
            for row in rows:
                chunks = [{"chunk": chunk, "vector": next(vectors)} for chunk in row["chunks"]]
                yield {"document": row["document"], "chunks": chunks}
            count += len(texts)

    run.write(name(batch, "prepare"), embed())
    return count


def _group(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows of documents, as many at once as have CHUNKS_AT_ONCE chunks together."""
    group: list[dict[str, Any]] = []
    for row in rows:
        if group and sum(len(r["chunks"]) for r in (*group, row)) > CHUNKS_AT_ONCE:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def ingest(settings: Settings, run_id: str, batch: Batch) -> int:
    """Write the batch to the store and verify it there; how many chunks. Raises OvertakenError."""
    run, turn = RunFolder(settings.state_dir, run_id), Turn(batch["turn"], run_id)
    sessions = composition.create_ledger(settings)
    written: list[sync.Written] = []
    with composition.open_store(settings) as store:
        for rows in _group(run.read(name(batch, "prepare"))):
            written += sync.write_batch(rows, store, sessions, turn)
    run.write(name(batch, WRITTEN), [asdict(document) for document in written])
    return sum(document.chunks for document in written)


def commit(settings: Settings, run_id: str) -> sync.Outcome:
    """Delete what is superseded, commit the ledger, compare it with the store.

    Raises OvertakenError where the plan is out of date, other SyncErrors for a partial run, KnowledgeError where there
    is no plan. Nothing but what this very plan let its tasks read is committed.
    """
    run, sessions = RunFolder(settings.state_dir, run_id), composition.create_ledger(settings)
    if run.list_names(
        DONE
    ):  # killed, or cleared, when all was done: once more is nothing, while it still holds
        [done] = run.read(DONE)
        with sync.hold_turn(sessions, Turn(done.pop("turn"), run_id)):
            return sync.Outcome(**{**done, "missing": tuple(done["missing"])})
    try:
        [planned] = run.read(PLAN)
    except FileNotFoundError:
        raise KnowledgeError(
            "This run has no plan, so nothing was changed: its task `plan` says why. Once it is mended, clear "
            "`plan` with everything after it, or start a new run."
        ) from None
    turn = Turn(planned["turn"], run_id)

    def read(step: str) -> list[Any]:
        return [row for file in run.list_names(f"{step}.{turn.number}.") for row in run.read(file)]

    named = {(row["uri"], row["content_hash"]) for row in read(READ)}
    # A document may stand in two batches, with what `extract` read in an earlier try, too.
    written = {
        row["uri"]: sync.Written(**row) for row in read(WRITTEN) if (row["uri"], row["content_hash"]) in named
    }
    with composition.open_store(settings) as store:
        hashes = {document["uri"]: document["content_hash"] for document in planned["write"]}
        outcome = sync.commit_run(hashes, planned["removed"], list(written.values()), store, sessions, turn)
        sync.reconcile(store, sessions, turn, known={*planned["lost"], *outcome.missing})
    # A source whose folder was removed meanwhile has no tasks any more that could have said so.
    vanished = {row["uri"] for row in planned["write"] if not os.path.exists(row["path"])}
    gone = {*read(GONE), *vanished}
    if lost := vanished.intersection(outcome.missing):
        log.warning("%d files were removed while this run was at work: the next run sees to them", len(lost))
    if missing := [uri for uri in outcome.missing if uri not in gone]:
        shown = ", ".join(missing[:10])
        raise sync.IncompleteSyncError(
            f"{outcome.written} documents are in, {len(missing)} are not, or in their earlier version: {shown}. "
            "The failed tasks of this run say why; the next run tries again"
        )
    run.write(DONE, [{"turn": turn.number, **asdict(outcome)}])
    run.keep_only(DONE)
    return outcome


def publish(settings: Settings, lineage: dict[str, str]) -> str | None:
    """Tell the training deployment; the digest that was published, or None."""
    from shared.airflow import AirflowApi

    password = settings.secrets.training_service_password.get_secret_value()
    training = AirflowApi(settings.training_url, settings.training_service_user, password)
    return publish_newest(composition.create_ledger(settings), training, lineage)


def clear(settings: Settings, run_id: str, request: Request) -> int:
    """Empty the knowledge base; how many documents it had. Raises OutdatedRequestError."""
    with composition.open_store(settings) as store:
        return sync.clear(store, composition.create_ledger(settings), request, run_id)


def name(batch: Batch, step: str) -> str:
    """The batch's file of one step; a source's name has no dot, and no two plans have the same turn."""
    return f"{step}.{batch['turn']}.{batch['source']}.{batch['number']:05d}"
