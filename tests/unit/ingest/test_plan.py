import time
from pathlib import Path

import pytest

from deployments.ingest.plan import BATCH_SIZE, MAX_BATCHES, Current, make_batches, plan_sync
from deployments.ingest.sources import KnowledgeError, Problem, SourceDocument


def document(name: str, content_hash: str = "1") -> SourceDocument:
    return SourceDocument(f"knowledge://guides/{name}", "guides", Path(name), content_hash, 1)


def current(*documents: SourceDocument) -> dict[str, Current]:
    return {d.uri: Current(d.uri, d.content_hash, 1) for d in documents}


def test_the_difference_is_by_content() -> None:
    known = current(document("same"), document("edited"), document("gone"))
    plan = plan_sync([document("same"), document("edited", "2"), document("new")], [], known)
    assert [d.uri[-3:] for d in plan.added] == ["new"]
    assert [d.uri for d in plan.changed] == ["knowledge://guides/edited"]
    assert plan.unchanged == ("knowledge://guides/same",)
    assert plan.removed == ("knowledge://guides/gone",)
    assert plan.summarize() == {"added": 1, "changed": 1, "unchanged": 1, "removed": 1}


def test_nothing_to_do_is_an_empty_plan() -> None:
    plan = plan_sync([document("a")], [], current(document("a")))
    assert plan.to_write == () and plan.removed == ()


def test_a_document_that_lost_chunks_is_written_again() -> None:
    known = current(document("a"), document("b"))
    plan = plan_sync([document("a"), document("b")], [], known, damaged={document("a").uri})
    assert [d.uri for d in plan.to_write] == ["knowledge://guides/a"]
    assert plan.unchanged == ("knowledge://guides/b",)


def test_a_file_with_a_problem_keeps_its_earlier_version() -> None:
    broken = document("broken")
    plan = plan_sync([document("a")], [Problem(broken.uri, "binary")], current(document("a"), broken))
    assert plan.removed == ()


def test_a_folder_that_cannot_be_read_keeps_what_was_in_it() -> None:
    known = current(document("a"), document("deep/b"), document("deeper"))
    plan = plan_sync([document("a")], [Problem("knowledge://guides/deep", "permissions")], known)
    assert plan.removed == ("knowledge://guides/deeper",)


def test_an_empty_folder_never_empties_the_knowledge_base() -> None:
    with pytest.raises(KnowledgeError, match="knowledge clear"):
        plan_sync([], [], current(document("a")))
    with pytest.raises(KnowledgeError, match="content/knowledge"):
        plan_sync([], [], {})


@pytest.mark.parametrize("count", [0, 1, BATCH_SIZE, BATCH_SIZE + 1, 2_001, 50_000])
def test_batches_hold_each_document_once_and_are_named_after_them(count: int) -> None:
    documents = [document(f"{n:03}.md") for n in range(count)]
    batches = make_batches(documents)
    assert [uri for batch in batches for uri in batch["uris"]] == [d.uri for d in documents]
    assert len(batches) <= MAX_BATCHES, "Airflow maps a task over 1,024 at most, and each costs its start"
    if count == BATCH_SIZE + 1:
        assert [batch["label"] for batch in batches] == ["000.md … 019.md (20)", "020.md"]


def test_ten_thousand_documents_are_planned_quickly() -> None:
    documents = [document(f"{n}.md") for n in range(10_000)]
    started = time.perf_counter()
    plan = plan_sync(documents, [], current(*documents[1:]))
    assert [d.uri for d in plan.to_write] == ["knowledge://guides/0.md"]
    assert time.perf_counter() - started < 30  # a quadratic plan takes minutes
