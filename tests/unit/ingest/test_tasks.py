"""The road of a run from sources to commit: the knowledge base follows the sources, and costs what changed."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import event, select, text

from deployments.ingest import ledger, loading, tasks
from deployments.ingest.connectors.port import SourceUnavailableError
from deployments.ingest.errors import IncompleteSyncError, KnowledgeError, SyncError
from deployments.ingest.handover import GROUP_ROWS
from deployments.ingest.model import Problem
from shared.contracts import chunk_id
from shared.ledger.models import (
    DocumentReference,
    DocumentText,
    DocumentVersion,
    KnowledgeProblem,
    KnowledgeSource,
    KnowledgeSync,
    KnowledgeVersion,
    utc_now,
)
from shared.llm.port import LlmError
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk
from tests.ingest import Deployment

GUIDE, NOTE = "knowledge://guides/assets.md", "knowledge://notes/one.txt"


@pytest.fixture
def base(deployment: Deployment) -> Deployment:
    """Two documents, synced."""
    deployment.shelf.put(GUIDE, "# Assets\n\nold fact\n\nkept fact")
    deployment.shelf.put(NOTE, "a note")
    deployment.sync()
    return deployment


def count(outcome: tasks.Outcome, *names: str) -> tuple[int, ...]:
    return tuple(outcome.counts[name] for name in names)


def read_sync(deployment: Deployment) -> KnowledgeSync:
    with deployment.sessions() as session:
        state = ledger.read_sync(session, f"manual__{deployment.runs}")
    assert state is not None
    return state


def list_problems(deployment: Deployment) -> dict[str, str]:
    return {problem.uri: problem.message for problem in tasks.list_problems(deployment.ingest)}


def test_the_knowledge_base_follows_the_sources(base: Deployment) -> None:
    base.check()
    base.shelf.put(GUIDE, "# Assets\n\nnew fact\n\nkept fact")
    base.shelf.put("knowledge://notes/two.txt", "another note")
    outcome = base.sync()
    assert count(outcome, "added", "changed", "removed", "unchanged", "chunks") == (1, 1, 0, 1, 3)
    assert (outcome.written, outcome.documents, outcome.chunks) == (2, 3, 4)
    base.check()
    base.shelf.take(NOTE)
    outcome = base.sync()
    assert (outcome.written, outcome.removed, outcome.documents) == (0, 1, 2)
    base.check()
    base.check_embedded_once()


def test_an_unchanged_chunk_of_a_changed_document_is_not_embedded_again(base: Deployment) -> None:
    base.llm.requests.clear()
    base.shelf.put(GUIDE, "# Assets\n\nnew fact\n\nkept fact")
    outcome = base.sync()
    assert [sorted(request) for request in base.llm.requests] == [["Assets\nHeading\nnew fact"]]
    assert count(outcome, "embedded", "reused") == (1, 1)


class WatchedStore(FakeVectorStore):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__(created=False)
        self.calls: list[str] = []

    def write(self, chunks: Sequence[EmbeddedChunk], *, fresh: bool = False) -> None:
        self.calls += ["write"] * bool(chunks)
        super().write(chunks, fresh=fresh)

    def delete(self, ids: Sequence[str]) -> None:
        self.calls += ["delete"] * bool(ids)
        super().delete(ids)

    def iterate(self) -> Any:
        self.calls.append("walk")
        return super().iterate()


def test_what_is_unchanged_costs_nothing(deployment: Deployment) -> None:
    store = deployment.store = WatchedStore()
    deployment.ingest = deployment.build()
    for number in range(300):
        deployment.shelf.put(f"knowledge://guides/{number}.md", f"# Guide {number}\n\nfact {number}")
    deployment.sync()
    deployment.shelf.opened.clear()
    deployment.llm.requests.clear()
    store.calls.clear()
    run = deployment.start()
    outcome = run.go()
    assert run.batches == [] and not deployment.shelf.opened
    assert deployment.llm.requests == [] and store.calls == []
    assert count(outcome, "unchanged", "added", "changed", "chunks") == (300, 0, 0, 0)
    assert read_sync(deployment).outcome == "nothing_new"
    with deployment.sessions() as session:
        assert len(session.scalars(select(KnowledgeVersion)).all()) == 1

    deployment.shelf.put("knowledge://guides/7.md", "# Guide 7\n\nanother fact")
    deployment.sync()
    assert dict(deployment.shelf.opened) == {"knowledge://guides/7.md": 1}
    assert deployment.llm.asked.total() == 1 and "walk" not in store.calls


def test_the_ledger_is_asked_by_sets(deployment: Deployment) -> None:
    """As many statements for many documents as for few."""
    asked: list[str] = []
    event.listen(
        deployment.sessions.kw["bind"], "before_cursor_execute", lambda *values: asked.append(values[2])
    )
    counts = []
    for number in (3, 60):
        for one in range(number):
            deployment.shelf.put(f"knowledge://guides/{number}-{one}.md", f"# {one}\n\nfact {number} {one}")
        asked.clear()
        deployment.sync()
        counts.append(len(asked))
    assert counts[1] <= counts[0] + 3, asked


def test_a_document_that_only_looks_new_is_read_and_not_written(base: Deployment) -> None:
    base.llm.requests.clear()
    base.shelf.fingerprints[GUIDE] = "touched"
    outcome = base.sync()
    assert base.shelf.opened[GUIDE] == 2 and base.llm.requests == []
    assert count(outcome, "unchanged", "changed") == (2, 0)
    with base.sessions() as session:
        assert session.get_one(DocumentReference, GUIDE).fingerprint == "touched"
        assert len(session.scalars(select(DocumentVersion)).all()) == 2
    base.sync()
    assert base.shelf.opened[GUIDE] == 2


def test_a_document_that_changes_between_listing_and_opening_is_read_again_by_the_next_run(
    base: Deployment,
) -> None:
    run = base.start()
    base.shelf.put(GUIDE, "# Assets\n\nedited once")
    for step in run.steps[:3]:
        step()
    base.shelf.put(GUIDE, "# Assets\n\nedited twice")
    for step in run.steps[3:]:
        step()
    assert base.read_texts()[GUIDE] == ["edited twice"]
    outcome = base.sync()
    assert count(outcome, "unchanged", "changed") == (2, 0) and base.shelf.opened[GUIDE] == 3
    base.check()


def test_a_document_that_goes_away_under_a_run_keeps_its_version_until_the_next(base: Deployment) -> None:
    run = base.start()
    base.shelf.put("knowledge://notes/two.txt", "another note")
    base.shelf.put(NOTE, "a newer note")
    for step in run.steps[:3]:
        step()
    base.shelf.take(NOTE)
    for step in run.steps[3:]:
        step()
    assert base.read_texts()[NOTE] == ["a note"]
    assert [batch["counts"]["gone"] for batch in run.batches] == [1]
    base.sync()
    base.check()


def test_a_moved_document_is_the_same_content_under_another_uri(base: Deployment) -> None:
    base.llm.requests.clear()
    base.shelf.move(GUIDE, "knowledge://notes/deep/assets.md")
    outcome = base.sync()
    assert base.llm.requests == []
    assert count(outcome, "moved", "added", "removed", "withheld") == (1, 0, 0, 0)
    base.check()
    with base.sessions() as session:
        rows = session.execute(select(DocumentVersion.uri, DocumentVersion.moved_from)).all()
    assert ("knowledge://notes/deep/assets.md", GUIDE) in [tuple(row) for row in rows]


def test_a_source_that_is_renamed_moves_whole(base: Deployment) -> None:
    base.shelf.sources["handbook"] = base.shelf.sources.pop("guides")
    outcome = base.sync()
    assert count(outcome, "moved", "withheld", "embedded") == (1, 0, 0)
    base.check()
    with base.sessions() as session:
        states = {row.name: row.state for row in session.scalars(select(KnowledgeSource))}
    assert states == {"guides": "gone", "handbook": "listed", "notes": "listed"}


def test_what_only_seems_to_have_moved_stays_until_it_is_known(base: Deployment) -> None:
    base.shelf.fingerprints |= {GUIDE: "same", NOTE: "other"}
    base.sync()
    base.shelf.take(GUIDE)
    base.shelf.fingerprints["knowledge://guides/x.md"] = "same"
    base.shelf.put("knowledge://guides/x.md", "# Quite another\n\nother fact")
    outcome = base.sync()
    assert count(outcome, "added", "moved", "removed") == (1, 0, 0)
    assert set(base.read_texts()) == {GUIDE, NOTE, "knowledge://guides/x.md"}
    assert base.sync().removed == 1
    base.check()


def test_a_document_that_moved_and_cannot_be_read_there_stays_where_it_was(base: Deployment) -> None:
    base.shelf.move(GUIDE, "knowledge://guides/locked.md")
    base.shelf.locked.add("knowledge://guides/locked.md")
    outcome = base.sync()
    assert count(outcome, "moved", "removed", "withheld") == (0, 0, 0) and GUIDE in base.read_texts()
    base.shelf.locked.clear()
    assert count(base.sync(), "moved", "embedded") == (1, 0)
    base.check()


def test_two_documents_of_one_content_are_embedded_once_and_both_cited(base: Deployment) -> None:
    base.shelf.put("knowledge://guides/copy.md", base.shelf.read()[GUIDE])
    base.shelf.put("knowledge://notes/copy.md", base.shelf.read()[GUIDE])
    base.shelf.put("knowledge://guides/new.md", "# New\n\nnew")
    base.shelf.put("knowledge://notes/new.md", "# New\n\nnew")
    outcome = base.sync()
    assert count(outcome, "duplicates", "embedded", "reused") == (3, 1, 5)
    base.check()
    base.check_embedded_once()


def test_two_documents_with_one_uri_are_one_and_named(deployment: Deployment) -> None:
    deployment.shelf.put(GUIDE, "# Assets\n\nfirst")
    deployment.shelf.put("knowledge://guides/other.md", "# Assets\n\nsecond")
    connect = deployment.shelf.connect

    def double(source: Any) -> Any:
        connector = connect(source)
        listed = connector.list_references

        def list_references(known: Any) -> Any:
            for reference in listed(known):
                yield (
                    reference
                    if reference.key == "assets.md"
                    else type(reference)(GUIDE, "guides", reference.key, reference.fingerprint)
                )

        connector.list_references = list_references
        return connector

    deployment.ingest = deployment.build(connect=double)
    assert deployment.sync().documents == 1
    assert deployment.read_texts() == {GUIDE: ["first"]}
    assert "2 documents have this URI" in list_problems(deployment)[GUIDE]
    assert count(deployment.sync(), "unchanged", "changed") == (1, 0)


def test_an_unreadable_document_is_quarantined_until_it_changes(base: Deployment) -> None:
    base.shelf.put(GUIDE, b"\xff\xfe")
    base.shelf.put("knowledge://guides/bug.md", b"BUG")
    base.shelf.put("knowledge://guides/empty.md", "# Nothing below")
    base.shelf.put("knowledge://guides/nul.md", "a\0b")
    base.shelf.put("knowledge://notes/two.txt", "another note")
    outcome = base.sync()
    assert count(outcome, "added", "changed", "quarantined") == (1, 0, 4)
    assert list_problems(base) == {
        GUIDE: "it is not UTF-8: save it as UTF-8",
        "knowledge://guides/bug.md": "reading it failed (KeyError): the log of this run says where",
        "knowledge://guides/empty.md": "no text was found in it",
        "knowledge://guides/nul.md": "its text holds NUL characters",
    }
    assert base.read_texts()[GUIDE] == ["old fact", "kept fact"]  # the earlier version
    base.shelf.opened.clear()
    outcome = base.sync()
    assert count(outcome, "quarantined", "unchanged") == (4, 2) and not base.shelf.opened
    assert len(list_problems(base)) == 4
    with base.sessions() as session:
        assert set(session.scalars(select(KnowledgeProblem.ingest_run))) == {"manual__2"}

    for name in ("bug", "empty", "nul"):
        base.shelf.take(f"knowledge://guides/{name}.md")
    base.shelf.put(GUIDE, "# Assets\n\nmended")
    base.sync()
    assert list_problems(base) == {}
    base.check()


def test_a_quarantined_document_that_is_as_it_was_before_is_no_problem_any_more(base: Deployment) -> None:
    good = base.shelf.read()[GUIDE]
    base.shelf.put(GUIDE, b"\xff")
    base.sync()
    base.shelf.put(GUIDE, good)
    base.shelf.opened.clear()
    base.sync()
    assert list_problems(base) == {} and not base.shelf.opened
    base.check()


def test_a_document_that_cannot_be_opened_is_tried_in_every_run(base: Deployment) -> None:
    base.shelf.put(GUIDE, "# Assets\n\nnew fact")
    base.shelf.locked.add(GUIDE)
    for _ in range(2):
        base.sync()
        assert list_problems(base) == {GUIDE: "it can't be opened: unlock it"}
    assert base.shelf.opened[GUIDE] == 3
    with base.sessions() as session:
        assert session.scalars(select(KnowledgeProblem.ingest_run)).all() == ["manual__2"]
    base.shelf.locked.clear()
    base.sync()
    base.check()


def test_a_source_that_cannot_be_listed_keeps_its_documents_and_holds_up_nobody(base: Deployment) -> None:
    base.shelf.put("knowledge://guides/second.md", "# Second\n\nsecond")
    base.shelf.put("knowledge://guides/bad.md", b"\xff")
    base.sync()
    base.shelf.take("knowledge://guides/second.md")
    base.shelf.down.add("guides")
    base.shelf.put(NOTE, "a newer note")
    run = base.start()
    outcome = run.go()
    assert count(outcome, "changed", "removed", "withheld") == (1, 0, 0)
    assert set(base.read_texts()) == {GUIDE, NOTE, "knowledge://guides/second.md"}
    problems = list_problems(base)
    assert set(problems) == {"knowledge://guides", "knowledge://guides/bad.md"}
    assert "the source went away" in problems["knowledge://guides"]
    with base.sessions() as session:
        source = session.get_one(KnowledgeSource, "guides")
        assert (source.state, source.documents) == ("failed", 3) and "went away" in str(source.error)
    base.shelf.down.clear()
    base.sync()
    with base.sessions() as session:
        source = session.get_one(KnowledgeSource, "guides")
        assert (source.state, source.error, source.documents) == ("listed", None, 2)
    documents = base.shelf.read()
    del documents["knowledge://guides/bad.md"]
    base.check(documents)


def test_a_scan_that_fails_in_the_middle_leaves_no_listing_of_an_earlier_try(base: Deployment) -> None:
    run = base.start()
    run.list_sources()
    run.scan()
    base.shelf.down.add("guides")
    with pytest.raises(SourceUnavailableError):
        tasks.scan(base.ingest, run.name, run.sources[0])
    run.plan()
    assert run.planned is not None and run.planned["counts"]["failed_sources"] == 1


def test_what_a_source_says_that_the_ledger_cannot_keep_is_a_problem(base: Deployment) -> None:
    long = "ö" * 1100
    base.shelf.put(f"knowledge://guides/{long}.md", "# Long\n\nlong")
    base.shelf.put("knowledge://guides/a\nb.md", "# Line\n\nline")
    base.shelf.put("knowledge://guides/" + "😀" * 900, "# Smile\n\nsmile")
    base.shelf.put("knowledge://guides/" + "x" * 900, "# Fits\n\nfits")
    base.shelf.problems["guides"] = [Problem("knowledge://guides/link", "it is a link to nothing")]
    assert base.sync().documents == 3
    problems = list_problems(base)
    assert len(problems) == 4 and problems["knowledge://guides/link"] == "it is a link to nothing"
    assert "rename" in problems["knowledge://guides/a\\nb.md"]


def test_what_lies_below_a_problem_is_kept(base: Deployment) -> None:
    base.shelf.put("knowledge://guides/deep/inner.md", "# Inner\n\ninner")
    base.shelf.put("knowledge://guides/deeper.md", "# Deeper\n\ndeeper")
    base.sync()
    base.shelf.take("knowledge://guides/deep/inner.md")
    base.shelf.take("knowledge://guides/deeper.md")
    base.shelf.problems["guides"] = [Problem("knowledge://guides/deep", "the folder can't be read")]
    assert base.sync().removed == 1
    assert "knowledge://guides/deep/inner.md" in base.read_texts()


def lose(deployment: Deployment, number: int, of: int) -> None:
    for one in range(of):
        deployment.shelf.put(f"knowledge://library/{one}.md", f"# Book {one}\n\nbook {one}")
    deployment.sync()
    for one in range(number):
        deployment.shelf.take(f"knowledge://library/{one}.md")


def test_up_to_half_of_a_source_goes_and_more_waits_for_a_person(base: Deployment) -> None:
    lose(base, 5, 10)
    assert base.sync().removed == 5
    base.shelf.take("knowledge://library/5.md")
    base.shelf.take("knowledge://library/6.md")
    base.shelf.take("knowledge://library/7.md")
    base.shelf.put(NOTE, "a newer note")
    outcome = base.sync()
    assert count(outcome, "removed", "withheld", "changed") == (0, 3, 1)
    (problem,) = tasks.list_problems(base.ingest)
    assert problem.message == (
        "3 of 5 documents of `library` are gone; they stay in the knowledge base until `ghostwriter knowledge sync "
        "--accept-removals`"
    )
    assert base.sync().removed == 0, "a run that nobody agreed to"
    assert base.sync(accepted=[problem.removal]).removed == 3
    assert list_problems(base) == {}
    base.check()
    base.shelf.take("knowledge://library/8.md")
    base.shelf.take("knowledge://library/9.md")
    assert base.sync(accepted=[problem.removal]).removed == 0, "another loss than the one that was agreed to"


def test_a_source_that_is_not_declared_any_more_waits_for_a_person(base: Deployment) -> None:
    del base.shelf.sources["guides"]
    outcome = base.sync()
    assert count(outcome, "removed", "withheld") == (0, 1)
    (problem,) = tasks.list_problems(base.ingest)
    assert base.sync(accepted=[problem.removal]).removed == 1
    base.check()


def test_everything_can_go_where_that_was_accepted(base: Deployment) -> None:
    for documents in base.shelf.sources.values():
        documents.clear()
    assert count(base.sync(), "withheld") == (2,)
    removals = [problem.removal for problem in tasks.list_problems(base.ingest)]
    assert base.sync(accepted=removals).documents == 0
    base.check()


def test_five_thousand_documents_gone_at_once_go_when_a_person_agrees(deployment: Deployment) -> None:
    lose(deployment, 5_000, 5_010)
    outcome = deployment.sync()
    assert count(outcome, "removed", "withheld") == (0, 5_000) and outcome.documents == 5_010
    (problem,) = tasks.list_problems(deployment.ingest)
    assert deployment.sync(accepted=[problem.removal]).removed == 5_000
    deployment.check()


def test_a_run_without_any_source_says_what_to_do(deployment: Deployment) -> None:
    run = deployment.start()
    run.list_sources()
    with pytest.raises(KnowledgeError, match=r"content/knowledge/<source>/.*sources\.toml"):
        run.plan()
    with pytest.raises(KnowledgeError, match="no plan"):
        run.commit()
    tasks.record_failure(deployment.ingest, run.name)
    assert read_sync(deployment).outcome == "failed"


def test_a_source_without_documents_is_nothing_new(deployment: Deployment) -> None:
    deployment.shelf.sources["guides"] = {}
    outcome = deployment.sync()
    assert (outcome.documents, outcome.written) == (0, 0)
    assert read_sync(deployment).outcome == "nothing_new"


def test_a_batch_that_failed_is_named_and_taken_up_by_the_next_run(deployment: Deployment) -> None:
    deployment.shelf.put(GUIDE, "# Assets\n\nold fact")
    deployment.shelf.put(NOTE, "a note")
    run = deployment.start()
    for step in run.steps[:4]:
        step()
    tasks.load(deployment.ingest, run.name, run.batches[0])
    with pytest.raises(IncompleteSyncError, match=r"1 documents are in, 1 are not.*notes/one\.txt"):
        run.commit()
    assert deployment.read_texts() == {GUIDE: ["old fact"]}
    assert read_sync(deployment).outcome == "incomplete"
    deployment.check_visible()
    assert deployment.sync().documents == 2
    deployment.check()
    deployment.check_embedded_once()


def test_a_store_that_lost_everything_is_filled_again_without_embedding(base: Deployment) -> None:
    base.llm.requests.clear()
    base.store.drop_collection()
    outcome = base.sync()
    assert count(outcome, "repaired", "changed", "added") == (2, 0, 0) and base.llm.requests == []
    base.check()
    with base.sessions() as session:
        assert len(session.scalars(select(DocumentVersion)).all()) == 2
    assert read_sync(base).outcome == "changed"


def test_a_chunk_that_the_store_lost_is_written_again_and_a_stray_deleted(base: Deployment) -> None:
    (lost,) = [name for name, chunk in base.expect().items() if chunk.text == "kept fact"]
    base.store.delete([lost])
    assert count(base.sync(), "repaired") == (1,)
    base.check()
    stray = Chunk(chunk_id("x", "y", 0), "x", "y", 0, "guides", "", "", "stray")
    base.store.write([EmbeddedChunk(stray, [1.0])])
    base.sync()
    base.check()


def test_what_the_store_lost_of_a_document_that_cannot_be_read_is_named_and_stops_no_run(
    base: Deployment,
) -> None:
    store = base.store
    base.shelf.put(GUIDE, b"\xff")
    base.sync()
    store.drop_collection()
    base.shelf.put("knowledge://notes/two.txt", "another note")
    for _ in range(3):
        assert base.sync().documents == 3
        (problem,) = tasks.list_problems(base.ingest)
        assert problem.uri == GUIDE
        assert "save it as UTF-8" in problem.message and "the store lost" in problem.message
        assert set(base.read_texts()) == {NOTE, "knowledge://notes/two.txt"}
    base.shelf.put(GUIDE, "# Assets\n\nold fact\n\nkept fact")
    base.sync()
    assert list_problems(base) == {}
    base.check()


class ForgetfulStore(FakeVectorStore):
    """Loses a chunk when nobody looks: right after it was verified."""

    def delete(self, ids: Sequence[str]) -> None:
        super().delete(ids)
        (self._chunks or {}).popitem()


def test_what_a_kill_of_the_store_tore_is_mended_by_the_next_run_and_looked_for_once(
    base: Deployment,
) -> None:
    torn = set(base.expect())
    base.store.torn |= torn
    base.sync()
    assert base.store.torn == torn, "nobody looks as long as the store is not started anew"
    base.store.starts += 1
    base.shelf.put(NOTE, "a newer note")
    base.sync()
    assert not base.store.torn
    base.store.torn |= torn
    base.sync()
    assert base.store.torn == torn


def test_what_a_commit_finds_lost_is_an_error_and_mended_by_the_next_run(base: Deployment) -> None:
    healthy = base.store
    store = base.store = ForgetfulStore()
    store._chunks = healthy._chunks
    base.ingest = base.build()
    base.shelf.put(NOTE, "a newer note")
    with pytest.raises(SyncError, match=r"1 of 3 chunks are missing.*knowledge sync"):
        base.sync()
    assert read_sync(base).outcome == "incomplete"
    base.store = healthy
    base.ingest = base.build()
    base.sync()
    base.check()


def test_documents_of_before_recipes_keep_their_chunks_and_are_opened_once(base: Deployment) -> None:
    """As an earlier version of Ghostwriter left them: no recipe, no reference, no text."""
    content = base.shelf.read()[GUIDE]
    digest = next(chunk.content_hash for chunk in base.expect().values() if chunk.uri == GUIDE)
    chunks = [
        Chunk(chunk_id(GUIDE, digest, n), GUIDE, digest, n, "guides", "Assets", "", f"old {n}")
        for n in range(3)
    ]
    old = [EmbeddedChunk(chunk, [1.0] * 8) for chunk in chunks]
    with base.sessions.begin() as session:
        session.execute(
            text("UPDATE document_versions SET recipe = '', chunks = 3 WHERE uri = :uri"), {"uri": GUIDE}
        )
        session.execute(text("DELETE FROM document_references"))
        session.execute(text("DELETE FROM document_texts"))
    base.store.delete([name for name, chunk in base.expect().items() if chunk.uri == GUIDE])
    base.store.write(old)
    base.shelf.opened.clear()
    base.llm.requests.clear()
    outcome = base.sync()
    assert count(outcome, "unchanged", "changed", "embedded") == (2, 0, 0)
    assert base.read_texts()[GUIDE] == ["old 0", "old 1", "old 2"]
    assert base.shelf.opened == {GUIDE: 1, NOTE: 1}
    base.sync()
    assert base.shelf.opened == {GUIDE: 1, NOTE: 1}
    base.shelf.put(GUIDE, content + b"\n\nand more")
    assert base.sync().written == 1
    assert set(base.expect()) == {chunk.id for chunk in base.store.iterate()}


def test_the_record_of_a_run_says_what_came_of_it(base: Deployment) -> None:
    base.shelf.put(GUIDE, "# Assets\n\nnew fact\n\nkept fact")
    base.shelf.put("knowledge://notes/two.txt", "another note")
    base.shelf.put("knowledge://notes/bad.txt", b"\xff")
    base.sync()
    state = read_sync(base)
    assert (state.outcome, state.reason) == ("changed", "a test") and state.ended_at is not None
    assert state.counts == {
        "added": 1, "changed": 1, "moved": 0, "repaired": 0, "removed": 0, "unchanged": 1, "duplicates": 0,
        "quarantined": 1, "withheld": 0, "chunks": 3, "embedded": 2, "reused": 1, "missing": 0,
    }  # fmt: skip
    assert state.sources == {
        "guides": {"unchanged": 0, "changed": 1, "chunks": 2},
        "notes": {"unchanged": 1, "added": 1, "chunks": 1},
    }
    assert set(state.seconds) == {"scan", "plan", "extract", "load", "commit"}


def test_a_version_and_its_text_are_on_record(base: Deployment) -> None:
    base.shelf.put(GUIDE, "# Assets\n\nnew fact")
    base.sync()
    with base.sessions() as session:
        rows = session.scalars(
            select(DocumentVersion).where(DocumentVersion.uri == GUIDE).order_by(DocumentVersion.id)
        ).all()
        assert [(r.ingest_run, r.superseded_by_run, r.chunks) for r in rows] == [
            ("manual__1", "manual__2", 2),
            ("manual__2", None, 1),
        ]
        new = rows[1]
        assert (new.title, new.recipe, new.language, new.place, new.notes, new.source) == (
            "Assets", "fake-1+split-1", "en", "shelf:assets.md", [], "guides",
        )  # fmt: skip
        texts = {row.content_hash: row for row in session.scalars(select(DocumentText))}
        assert texts[new.content_hash].text == "# Assets\n\nnew fact"
        assert (texts[new.content_hash].extractor, texts[new.content_hash].pages) == ("fake-1", [])
        assert rows[0].content_hash in texts  # an earlier version can still be compared


def test_large_and_many_documents_go_in_portions(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "CHUNKS_AT_ONCE", 7)
    deployment.shelf.put(
        GUIDE, "# Assets\n\n" + "\n\n".join(f"paragraph {n}" for n in range(GROUP_ROWS + 100))
    )
    for number in range(30):
        deployment.shelf.put(f"knowledge://notes/{number}.txt", f"note {number}\n\nmore {number}")
    deployment.sync()
    deployment.check()
    deployment.check_embedded_once()


def test_a_batch_is_named_after_its_documents_and_counts_them(deployment: Deployment) -> None:
    for number in range(300):
        deployment.shelf.put(f"knowledge://guides/{number:03}.md", f"# {number}\n\nfact {number}")
    deployment.shelf.put(NOTE, "a note")
    deployment.shelf.connectors["notes"] = "git"
    run = deployment.start()
    run.go()
    assert run.planned is not None
    folders, git = run.planned["batches"]["folder"], run.planned["batches"]["git"]
    assert [batch["label"] for batch in folders] == [
        "guides: 000.md … 255.md (256)",
        "guides: 256.md … 299.md (44)",
    ]
    assert [(b["source"], b["number"], b["documents"]) for b in git] == [("notes", 0, 1)]
    assert [batch["counts"]["documents"] for batch in run.batches] == [256, 44, 1]
    deployment.check()


def test_the_hand_over_is_gone_when_all_is_done(base: Deployment) -> None:
    files = base.ingest.handover.open_run("manual__1")
    assert files.list_names("") == []
    run = base.start()
    for step in run.steps[:5]:
        step()
    assert base.ingest.handover.open_run(run.name).list_names("")
    run.commit()
    assert base.ingest.handover.open_run(run.name).list_names("") == []


def test_the_newest_version_is_published_once(base: Deployment) -> None:
    digest = tasks.publish(base.ingest, {"parentRunId": "r"})
    assert digest == base.sync().digest
    assert tasks.publish(base.ingest, {}) is None
    ((_, extra),) = base.training.events
    assert extra["version"] == digest and extra["documents"] == 2


def test_a_provider_that_fails_costs_nothing_twice(deployment: Deployment) -> None:
    for number in range(100):
        deployment.shelf.put(f"knowledge://guides/{number}.md", f"# {number}\n\nfact {number}")
    embed, calls = deployment.llm.embed, []

    def fail_second(model: str, texts: Sequence[str]) -> list[list[float]]:
        calls.append(len(texts))
        if len(calls) == 2:
            raise LlmError("answered 429")
        return embed(model, texts)

    deployment.llm.embed = fail_second  # type: ignore[method-assign]
    run = deployment.start()
    for step in run.steps[:4]:
        step()
    with pytest.raises(LlmError):
        run.load()
    run.load()
    run.commit()
    assert calls == [64, 36, 36]
    deployment.check()
    deployment.check_embedded_once()


def test_the_time_of_a_problem_is_when_it_was_first_met(base: Deployment) -> None:
    base.shelf.problems["guides"] = [Problem("knowledge://guides/link", "it is a link to nothing")]
    base.sync()
    with base.sessions() as session:
        first = session.scalars(select(KnowledgeProblem.found_at)).one()
    base.sync()
    with base.sessions() as session:
        assert session.scalars(select(KnowledgeProblem.found_at)).one() == first <= utc_now()
