import time
from pathlib import Path

import pytest

from deployments.ingest.plan import (
    BATCH_BYTES,
    BATCH_SIZE,
    MAX_BATCHES,
    Current,
    Removals,
    find_late_sources,
    make_batches,
    plan_removals,
    plan_sync,
)
from deployments.ingest.sources import KnowledgeError, Problem, SourceDocument


def document(name: str, content_hash: str = "1", source: str = "guides") -> SourceDocument:
    return SourceDocument(f"knowledge://{source}/{name}", source, Path(name), content_hash, 1)


def many(count: int, source: str = "guides") -> list[SourceDocument]:
    return [document(f"{number:03}.md", source=source) for number in range(count)]


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


def lose(before: list[SourceDocument], left: list[SourceDocument], **options: object) -> Removals:
    return plan_removals(left, [], current(*before), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("had", "left", "going"), [(10, 5, 5), (10, 4, 0), (2, 1, 1), (3, 1, 0), (1, 0, 0)])
def test_up_to_half_of_a_source_goes_and_more_waits(had: int, left: int, going: int) -> None:
    others = many(1000, "notes")
    removals = lose(many(had) + others, many(had)[:left] + others)
    assert len(removals.uris) == going
    assert [problem.uri for problem in removals.withheld] == ([] if going else ["knowledge://guides"])


def test_a_loss_that_waits_is_named_with_the_way_out_and_stops_nothing_else() -> None:
    before = [*many(992), *many(4, "notes")]
    left = [*many(992)[:23], document("new.md"), *many(3, "notes")]
    plan = plan_sync(left, [], current(*before))
    assert [d.uri for d in plan.added] == ["knowledge://guides/new.md"]
    assert plan.removed == (), "more than half of everything is gone too"
    withheld = lose(before, left).withheld
    assert [problem.message for problem in withheld] == [
        "969 of 992 documents of `guides` are gone; they stay in the knowledge base until "
        "`ghostwriter knowledge sync --accept-removals`",
        "1 of 4 documents of `notes` is gone; it stays in the knowledge base until "
        "`ghostwriter knowledge sync --accept-removals`",
    ]


def test_another_source_still_loses_a_document() -> None:
    others = many(100, "notes")
    plan = plan_sync(others[1:], [], current(*many(10), *others))
    assert plan.removed == ("knowledge://notes/000.md",)


def test_what_was_accepted_is_that_very_loss_and_no_later_one() -> None:
    before = [*many(10), *many(100, "notes")]
    (shown,) = lose(before, many(100, "notes")).withheld
    accepted = {shown.removal}
    assert len(lose(before, many(100, "notes"), accepted=accepted).uris) == 10
    for later in ([*many(10), document("new.md")], [*many(9)], [*many(9), document("009.md", "edited")]):
        removals = lose([*later, *many(100, "notes")], many(100, "notes"), accepted=accepted)
        assert removals.uris == () and removals.withheld[0].removal != shown.removal


def test_everything_goes_when_just_that_was_accepted() -> None:
    accepted = {problem.removal for problem in lose(many(3), []).withheld}
    assert len(plan_sync([], [], current(*many(3)), accepted=accepted).removed) == 3


def test_a_source_without_an_arm_in_this_run_is_not_written_loses_nothing_and_is_named() -> None:
    documents = [document("a"), document("x", source="outside"), document("y", "2", source="outside")]
    known = current(document("a", "0"), document("y", source="outside"))
    plan = plan_sync(documents, [], known, arms={"guides"})
    assert [d.uri for d in plan.to_write] == ["knowledge://guides/a"] and plan.removed == ()
    (late,) = find_late_sources(documents, known, {"guides"})
    assert late.uri == "knowledge://outside" and "knowledge sync" in late.message
    assert find_late_sources(documents, known, {"guides", "outside"}) == []


@pytest.mark.parametrize("count", [0, 1, BATCH_SIZE, BATCH_SIZE + 1, 2_001, 50_000])
def test_batches_hold_each_document_once_and_are_named_after_them(count: int) -> None:
    documents = [document(f"{n:03}.md") for n in range(count)]
    batches = make_batches(documents)
    assert [uri for batch in batches for uri in batch["uris"]] == [d.uri for d in documents]
    assert len(batches) <= MAX_BATCHES, "Airflow maps a task over 1,024 at most, and each costs its start"
    if count == BATCH_SIZE + 1:
        assert [batch["label"] for batch in batches] == ["000.md … 019.md (20)", "020.md"]


def sized(name: str, size: int) -> SourceDocument:
    return SourceDocument(f"knowledge://guides/{name}", "guides", Path(name), "1", size)


def test_batches_are_cut_by_bytes_as_well() -> None:
    large = [sized(f"{n:02}.md", 2_000_000) for n in range(20)]
    assert [len(batch["uris"]) for batch in make_batches(large)] == [1] * 20  # type: ignore[arg-type]
    mixed = [
        sized("a", 10),
        sized("b", BATCH_BYTES),
        sized("c", BATCH_BYTES - 10),
        sized("d", 10),
        sized("e", 1),
    ]
    batches = make_batches(mixed)
    assert [[uri[-1] for uri in batch["uris"]] for batch in batches] == [["a"], ["b"], ["c", "d"], ["e"]]  # type: ignore[attr-defined]
    assert [batch["number"] for batch in batches] == [0, 1, 2, 3]


@pytest.mark.parametrize("sizes", [[2_000_000] * 5_000, [1, 2_000_000] * 3_000, [BATCH_BYTES // 2 + 1] * 900])
def test_many_large_documents_are_no_more_tasks_than_airflow_maps_over(sizes: list[int]) -> None:
    documents = [sized(f"{n}.md", size) for n, size in enumerate(sizes)]
    batches = make_batches(documents)
    assert [uri for batch in batches for uri in batch["uris"]] == [d.uri for d in documents]  # type: ignore[attr-defined]
    assert len(batches) <= 2 * MAX_BATCHES + 1


def test_a_label_fits_into_airflows_column_and_keeps_both_ends_of_a_name() -> None:
    names = ["a" * 240 + "first.md", "b" * 240 + "last.md"]
    (batch,) = make_batches([document(name) for name in names])
    assert len(str(batch["label"])) <= 250
    assert "first.md … bbb" in str(batch["label"]) and str(batch["label"]).endswith("last.md (2)")
    (batch,) = make_batches([document("é" * 255)])
    assert len(str(batch["label"])) <= 250


def test_ten_thousand_documents_are_planned_quickly() -> None:
    documents = [document(f"{n}.md") for n in range(10_000)]
    started = time.perf_counter()
    plan = plan_sync(documents, [], current(*documents[1:]))
    assert [d.uri for d in plan.to_write] == ["knowledge://guides/0.md"]
    assert time.perf_counter() - started < 30  # a quadratic plan takes minutes
