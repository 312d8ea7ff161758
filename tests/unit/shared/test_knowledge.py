"""What a reader sees of the knowledge base."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from shared import knowledge
from shared.contracts import chunk_id
from shared.ledger.models import (
    Base,
    CollectionDocument,
    DocumentText,
    DocumentVersion,
    KnowledgeCollection,
    KnowledgeProblem,
    KnowledgeSource,
    KnowledgeSync,
    KnowledgeVersion,
)
from shared.ledger.sessions import create_sessions
from shared.vectors.port import Chunk, ScoredChunk

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
RECIPE = "markdown-1+split-2"
OLD, NEW = "0" * 64, "1" * 64


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    sessions = create_sessions(f"sqlite:///{tmp_path / 'ledger.db'}")
    Base.metadata.create_all(sessions.kw["bind"])
    with sessions() as session:
        yield session


def add_version(
    session: Session, uri: str, content_hash: str = NEW, recipe: str = RECIPE, *, title: str = "", days: int = 0,
    superseded: bool = False, chunks: int = 2,
) -> None:  # fmt: skip
    session.add(
        DocumentVersion(
            uri=uri, source=uri.split("/")[2], title=title or uri, content_hash=content_hash, size=10, chunks=chunks,
            recipe=recipe, ingest_run="r", ingested_at=NOW + timedelta(days=days),
            superseded_at=NOW + timedelta(days=days + 1) if superseded else None,
        )
    )  # fmt: skip
    session.flush()


def make_hit(uri: str, content_hash: str = NEW, recipe: str = RECIPE, position: int = 0) -> ScoredChunk:
    identifier = chunk_id(uri, content_hash, position, recipe)
    chunk = Chunk(identifier, uri, content_hash, position, "guides", uri, "", "text", recipe)
    return ScoredChunk(chunk, 1.0 - position / 10)


def test_a_hit_counts_only_if_its_version_is_current(session: Session) -> None:
    a, b, gone = (f"knowledge://guides/{name}.md" for name in ("a", "b", "gone"))
    add_version(session, a, OLD, superseded=True)
    add_version(session, a, NEW, days=1)
    add_version(session, b, OLD)
    add_version(session, gone, superseded=True)
    seen = [make_hit(b, OLD), make_hit(a, position=0), make_hit(a, position=1)]
    hits = [
        seen[0],
        make_hit(a, OLD),  # superseded
        seen[1],
        make_hit(b, NEW),  # written, not committed
        make_hit(a, NEW, "markdown-2+split-2"),  # split anew, not committed
        make_hit(gone),
        make_hit("knowledge://guides/unknown.md"),
        seen[2],
    ]
    assert knowledge.select_visible(session, hits) == seen


def test_visible_hits_take_one_query_whatever_their_number(session: Session) -> None:
    uris = [f"knowledge://guides/{number}.md" for number in range(120)]
    for uri in uris:
        add_version(session, uri)
    hits = [make_hit(uri, position=position) for uri in uris for position in range(2)]
    asked: list[str] = []
    event.listen(
        session.get_bind(), "before_cursor_execute", lambda _c, _cur, statement, *_: asked.append(statement)
    )
    assert len(knowledge.select_visible(session, hits)) == 240
    assert len(asked) == 1
    assert knowledge.select_visible(session, []) == []
    assert len(asked) == 1


def test_a_collection_that_is_not_served_yet_shows_what_it_holds_whole(session: Session) -> None:
    uri, other = "knowledge://guides/a.md", "knowledge://guides/b.md"
    anew = "markdown-1+split-3"
    for number in (1, 2):
        session.add(
            KnowledgeCollection(
                id=number, name=f"Chunk_v{number}", embedding_model="m", dimensions=4, splitting="split-3",
                state="building", run="r",
            )
        )  # fmt: skip
    session.flush()
    session.add(CollectionDocument(collection=1, uri=uri, content_hash=NEW, recipe=anew, chunks=1))
    session.add(CollectionDocument(collection=2, uri=other, content_hash=NEW, recipe=anew, chunks=1))
    session.flush()
    hits = [make_hit(other, NEW, anew), make_hit(uri, NEW, anew), make_hit(uri, OLD, anew), make_hit(uri)]
    assert knowledge.select_in_collection(1)(session, hits) == [hits[1]]
    assert knowledge.select_in_collection(1)(session, []) == []


def test_documents_written_before_recipes_are_seen(session: Session) -> None:
    add_version(session, "knowledge://guides/a.md", recipe="")
    hit = make_hit("knowledge://guides/a.md", recipe="")
    assert knowledge.select_visible(session, [hit]) == [hit]
    assert not knowledge.select_visible(session, [replace(hit, chunk=replace(hit.chunk, recipe=RECIPE))])


def test_documents_are_listed_by_source_words_and_place(session: Session) -> None:
    add_version(session, "knowledge://guides/a.md", title="Assets at 100%", chunks=3)
    add_version(session, "knowledge://guides/b.md", title="Aliases")
    add_version(session, "knowledge://notes/c.txt", title="Assets and more", days=2)
    add_version(session, "knowledge://notes/old.txt", superseded=True)

    def find(**what: object) -> list[str]:
        return [row.uri.rsplit("/", 1)[1] for row in knowledge.list_documents(session, **what)]  # type: ignore[arg-type]

    assert find() == ["a.md", "b.md", "c.txt"]
    assert find(source="notes") == ["c.txt"]
    assert find(words="ASSETS") == ["a.md", "c.txt"]
    assert find(words="assets notes") == ["c.txt"]
    assert find(words="%") == ["a.md"]
    assert find(after="knowledge://guides/a.md", limit=1) == ["b.md"]
    assert knowledge.count_sources(session) == [
        knowledge.SourceCount("guides", 2, 5, NOW),
        knowledge.SourceCount("notes", 1, 2, NOW + timedelta(days=2)),
    ]


def test_a_documents_versions_and_texts(session: Session) -> None:
    uri = "knowledge://guides/a.md"
    add_version(session, uri, OLD, superseded=True)
    add_version(session, uri, NEW, days=1)
    session.add(
        DocumentText(content_hash=NEW, extractor="markdown-1", text="new", markdown=True, title="A", pages=[])
    )
    session.flush()
    current = knowledge.find_document(session, uri)
    assert current is not None and current.content_hash == NEW
    new, old = knowledge.list_versions(session, uri)
    assert (new.content_hash, old.content_hash) == (NEW, OLD)
    text = knowledge.find_text(session, new)
    assert text is not None and text.text == "new"
    assert knowledge.find_text(session, old) is None
    assert knowledge.find_document(session, "knowledge://guides/b.md") is None


def test_what_came_last(session: Session) -> None:
    assert knowledge.find_last_sync(session) is None
    assert knowledge.find_newest_version(session) is None
    for number in range(3):
        at = NOW + timedelta(hours=number)
        session.add(KnowledgeSync(run=f"run-{2 - number}", started_at=at, counts={}, sources={}, seconds={}))
        session.add(KnowledgeVersion(digest=str(number) * 64, documents=1, chunks=2, ingest_run="r"))
        session.flush()
    last, newest = knowledge.find_last_sync(session), knowledge.find_newest_version(session)
    assert last is not None and last.run == "run-0"
    assert [sync.run for sync in knowledge.list_syncs(session, 2)] == ["run-0", "run-1"]
    assert newest is not None and newest.digest == "2" * 64


def test_sources_and_problems_are_in_the_order_of_their_names(session: Session) -> None:
    for name in ("notes", "guides"):
        session.add(KnowledgeSource(name=name, connector="folder", options={}, state="listed", run="r"))
        session.add(KnowledgeProblem(uri=f"knowledge://{name}/x", message="not UTF-8", ingest_run="r"))
    session.flush()
    assert [source.name for source in knowledge.list_sources(session)] == ["guides", "notes"]
    problems = knowledge.list_problems(session)
    assert [problem.uri for problem in problems] == ["knowledge://guides/x", "knowledge://notes/x"]
