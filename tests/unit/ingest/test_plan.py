import hashlib
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


def test_documents_to_write_are_in_the_order_of_their_uris() -> None:
    plan = plan_sync([document("a"), document("b", "2"), document("c")], [], current(document("b")))
    assert [d.uri[-1] for d in plan.to_write] == ["a", "b", "c"]
    assert [d.uri[-1] for d in plan.added] == ["a", "c"] and [d.uri[-1] for d in plan.changed] == ["b"]


def test_a_document_of_a_source_without_an_arm_stays_as_it_is_whatever_became_of_it() -> None:
    outside = [document(name, "2", "outside") for name in ("edited", "lost", "new")]
    known = current(document("edited", source="outside"), document("lost", "2", "outside"))
    plan = plan_sync(outside, [], known, damaged={document("lost", source="outside").uri}, arms={"guides"})
    assert (plan.added, plan.changed, plan.removed) == ((), (), ())
    assert plan.unchanged == ("knowledge://outside/edited", "knowledge://outside/lost")


def test_what_an_emptied_folder_says() -> None:
    with pytest.raises(KnowledgeError) as error:
        plan_sync([], [], current(*many(3)))
    assert str(error.value) == (
        "The knowledge folder holds no usable document, but the knowledge base has 3. Nothing was deleted. Put the "
        "files back, or run `ghostwriter knowledge clear` to empty the knowledge base."
    )
    with pytest.raises(KnowledgeError) as error:
        plan_sync([], [], {})
    assert str(error.value) == (
        "The knowledge folder holds no usable document: put .md or .txt files into content/knowledge/<source>/."
    )


def test_half_of_everything_may_go_and_one_more_may_not() -> None:
    sources = [many(4), many(4, "notes")]
    assert len(lose([*sources[0], *sources[1]], [*sources[0][:2], *sources[1][:2]]).uris) == 4
    # A third source keeps both losses below half of their sources: only the sum is too much.
    before = [*many(10), *many(10, "notes"), document("one", source="third")]
    left = [*many(10)[:5], *many(10, "notes")[:5]]
    removals = lose(before, left)
    assert removals.uris == ()
    assert [problem.uri for problem in removals.withheld] == [
        "knowledge://guides",
        "knowledge://notes",
        "knowledge://third",
    ]


def test_what_is_accepted_goes_while_the_rest_waits() -> None:
    before = [*many(4), *many(2, "notes")]
    first, second = lose(before, []).withheld
    digest = hashlib.sha256(
        b"knowledge://notes/000.md 1\nknowledge://notes/001.md 1\n"
    ).hexdigest()  # what a run's conf holds
    assert second == Problem(
        "knowledge://notes",
        "2 of 2 documents of `notes` are gone; they stay in the knowledge base until "
        "`ghostwriter knowledge sync --accept-removals`",
        digest,
    )
    removals = lose(before, [], accepted={digest})
    assert removals == Removals(("knowledge://notes/000.md", "knowledge://notes/001.md"), (first,))


def test_late_sources_are_those_with_something_to_write() -> None:
    known = current(document("same", source="b"), document("edited", source="c"))
    documents = [
        document("new", source="d"),
        document("edited", "2", "c"),
        document("same", source="b"),
        document("new"),
    ]
    message = "the run began before Airflow knew this folder: `ghostwriter knowledge sync` reads it"
    assert find_late_sources(documents, known, {"guides"}) == [
        Problem("knowledge://c", message),
        Problem("knowledge://d", message),
    ]


def count(documents: list[SourceDocument]) -> list[int]:
    return [len(batch["uris"]) for batch in make_batches(documents)]  # type: ignore[arg-type]


def test_a_batch_holds_twenty_documents_and_more_only_where_there_would_be_more_than_a_hundred() -> None:
    assert [count(many(number)) for number in (20, 21, 40)] == [[20], [20, 1], [20, 20]]
    assert count(many(2_000)) == [20] * 100
    assert count(many(2_001)) == [21] * 95 + [6]


def test_a_batch_holds_a_megabyte_and_more_only_where_there_would_be_more_than_a_hundred() -> None:
    assert count([sized("a", 500_000), sized("b", 500_000)]) == [2]
    assert count([sized("a", 500_000), sized("b", 500_001)]) == [1, 1]
    assert count([sized(f"{n}", 600_000) for n in range(100)]) == [2] * 50
    # 50 MB and 26 bytes: the hundredth of its double, rounded up, is 1,000,001.
    rest = [sized(f"{n}", 1_000_000) for n in range(49)]
    assert count([sized("a", 500_000), sized("b", 500_001), *rest, sized("c", 25)]) == [2] + [1] * 50


def test_batches_are_numbered_and_labelled() -> None:
    documents = [*many(21), document("deep/er/last.md")]
    assert make_batches(documents) == [
        {"number": 0, "label": "000.md … 019.md (20)", "uris": [d.uri for d in many(20)]},
        {
            "number": 1,
            "label": "020.md … last.md (2)",
            "uris": ["knowledge://guides/020.md", "knowledge://guides/deep/er/last.md"],
        },
    ]


def test_a_name_of_more_than_a_hundred_characters_is_cut_in_its_middle() -> None:
    (batch,) = make_batches([document("a" * 50 + "b" * 50)])
    assert batch["label"] == "a" * 50 + "b" * 50
    (batch,) = make_batches([document("a" * 50 + "b" * 51)])
    assert batch["label"] == "a" * 49 + "…" + "b" * 50
