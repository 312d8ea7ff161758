"""What each task of the ingest Dags does, as plain functions over the settings.

They know no Airflow; the Dag files call them.
"""

import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deployments.ingest import composition, ledger, sync
from deployments.ingest.batches import RunFolder
from deployments.ingest.plan import make_batches, plan_sync
from deployments.ingest.publication import publish_newest
from deployments.ingest.sources import KnowledgeError, Problem, SourceDocument, read_document, scan_sources
from deployments.ingest.splitting import find_title, split_text
from shared.contracts import chunk_id
from shared.settings import Settings

log = logging.getLogger(__name__)

Batch = dict[str, Any]
PLAN, GONE = "plan", "gone"


def collection_exists(settings: Settings) -> bool:
    """Whether there is a collection to write to."""
    with composition.open_store(settings) as store:
        return store.collection_exists()


def create_collection(settings: Settings) -> None:
    """Create it."""
    with composition.open_store(settings) as store:
        store.create_collection()


def plan(settings: Settings, run_id: str) -> dict[str, int]:
    """Write the plan to the run's folder, and the problems to the ledger; its counts. Raises KnowledgeError."""
    documents, problems = scan_sources(composition.knowledge_dir(settings))
    # Before anything that may fail: where no file can be used, the problems say why.
    with composition.create_ledger(settings).begin() as session:
        ledger.replace_problems(session, problems, run_id)
        current = ledger.read_current(session)
    with composition.open_store(settings) as store:
        damaged = sync.find_damaged(store, current)
    if damaged:
        log.warning("store: %d documents lost chunks and are written again", len(damaged))
    planned = plan_sync(documents, problems, current, damaged=damaged)
    run = RunFolder(settings.state_dir, run_id)
    paths = [{**asdict(d), "path": str(d.path)} for d in planned.to_write]
    run.write(PLAN, [{"write": paths, "removed": planned.removed}])
    log.info("plan: %s, %d files with problems", planned.summarize(), len(problems))
    return {**planned.summarize(), "problems": len(problems)}


def list_problems(settings: Settings) -> list[Problem]:
    """Files that the latest plan could not use."""
    with composition.create_ledger(settings)() as session:
        return ledger.read_problems(session)


def extract(settings: Settings, run_id: str, source: str) -> list[Batch]:
    """Read a source's new and changed files, as they are now, into batches; how they are named and what they hold.

    A file that was removed or spoilt since the plan keeps its earlier version until the next run.
    """
    run = RunFolder(settings.state_dir, run_id)
    planned = [SourceDocument(**{**row, "path": Path(row["path"])}) for row in run.read(PLAN)[0]["write"]]
    documents: list[SourceDocument] = []
    gone: list[str] = []
    folder = (composition.knowledge_dir(settings) / source).resolve()
    for found in (read_document(source, d.path, d.uri, folder) for d in planned if d.source == source):
        if isinstance(found, SourceDocument):
            documents.append(found)
        else:
            gone.append(found.uri)
            log.warning("%s changed while this run was at work: %s", found.uri, found.message)
    run.write(f"{GONE}-{source}", gone)
    known = {document.uri: document for document in documents}
    batches: list[Batch] = []
    for made in make_batches(documents):
        batch: Batch = {**made, "source": source}
        run.write(name(batch, "extract"), [_read_row(known[uri]) for uri in batch["uris"]])
        batches.append(batch)
    log.info("%s: %d documents in %d batches", source, len(documents), len(batches))
    return batches


def _read_row(document: SourceDocument) -> dict[str, Any]:
    """A document with its text; the hash is of the very bytes that the text is from."""
    content = document.path.read_bytes()
    text = content.decode("utf-8-sig")
    return {
        "document": {
            **asdict(document),
            "path": str(document.path),
            "title": find_title(text, document.path.stem),
            "content_hash": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        },
        "text": text,
    }


def split(settings: Settings, run_id: str, batch: Batch) -> int:
    """Split the batch's texts; how many chunks."""
    run = RunFolder(settings.state_dir, run_id)
    rows: list[dict[str, Any]] = []
    for row in run.read(name(batch, "extract")):
        document = row["document"]
        sections = split_text(row["text"], markdown=not document["uri"].endswith(".txt"))
        chunks = [
            {
                "id": chunk_id(document["uri"], document["content_hash"], position),
                "uri": document["uri"],
                "content_hash": document["content_hash"],
                "position": position,
                "source": document["source"],
                "title": document["title"],
                "heading": section.heading,
                "text": section.text,
            }
            for position, section in enumerate(sections)
        ]
        written: dict[str, Any] = {
            key: document[key] for key in ("uri", "source", "title", "content_hash", "size")
        }
        rows.append({"document": {**written, "chunks": len(chunks)}, "chunks": chunks})
    run.write(name(batch, "split"), rows)
    return sum(len(row["chunks"]) for row in rows)


def prepare(settings: Settings, run_id: str, batch: Batch) -> int:
    """Embed the batch's chunks, title and heading included; how many."""
    run = RunFolder(settings.state_dir, run_id)
    rows = run.read(name(batch, "split"))
    texts = [
        "\n".join(filter(None, (c["title"], c["heading"], c["text"]))) for row in rows for c in row["chunks"]
    ]
    vectors = iter(composition.create_llm(settings).embed(settings.embedding_model, texts))
    ready = [
        {
            "document": row["document"],
            "chunks": [{"chunk": chunk, "vector": next(vectors)} for chunk in row["chunks"]],
        }
        for row in rows
    ]
    run.write(name(batch, "prepare"), ready)
    return len(texts)


def ingest(settings: Settings, run_id: str, batch: Batch) -> int:
    """Write the batch to the store and verify it there; how many chunks."""
    run = RunFolder(settings.state_dir, run_id)
    with composition.open_store(settings) as store:
        written = sync.write_batch(
            run.read(name(batch, "prepare")), store, composition.create_ledger(settings), run_id
        )
    run.write(name(batch, "written"), [asdict(document) for document in written])
    return sum(document.chunks for document in written)


def commit(settings: Settings, run_id: str) -> sync.Outcome:
    """Delete what is superseded, commit the ledger, compare it with the store. Raises SyncError for a partial run,
    KnowledgeError where there is no plan."""
    run = RunFolder(settings.state_dir, run_id)
    try:
        planned = run.read(PLAN)[0]
    except FileNotFoundError:
        raise KnowledgeError(
            "This run has no plan, so nothing was changed: its task `plan` says why."
        ) from None
    written = [sync.Written(**row) for file in run.list_names("written-") for row in run.read(file)]
    sessions = composition.create_ledger(settings)
    with composition.open_store(settings) as store:
        hashes = {document["uri"]: document["content_hash"] for document in planned["write"]}
        outcome = sync.commit_run(hashes, planned["removed"], written, store, sessions, run_id)
        sync.reconcile(store, sessions)
    gone = {uri for file in run.list_names(f"{GONE}-") for uri in run.read(file)}
    if missing := [uri for uri in outcome.missing if uri not in gone]:
        shown = ", ".join(missing[:10])
        raise sync.IncompleteSyncError(
            f"{outcome.written} documents are in, {len(missing)} are not, or in their earlier version: {shown}. "
            "The failed tasks of this run say why (a new folder is read within 30 seconds); the next run tries again"
        )
    run.remove()
    return outcome


def publish(settings: Settings, lineage: dict[str, str]) -> str | None:
    """Tell the training deployment; the digest that was published, or None."""
    from shared.airflow import AirflowApi

    password = settings.secrets.training_service_password.get_secret_value()
    training = AirflowApi(settings.training_url, settings.training_service_user, password)
    return publish_newest(composition.create_ledger(settings), training, lineage)


def clear(settings: Settings, run_id: str) -> int:
    """Empty the knowledge base; how many documents it had."""
    with composition.open_store(settings) as store:
        return sync.clear(store, composition.create_ledger(settings), run_id)


def name(batch: Batch, step: str) -> str:
    """The batch's file of one step."""
    return f"{step}-{batch['source']}-{batch['number']:05d}"
