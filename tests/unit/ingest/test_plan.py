"""The rules of a plan: batches by bytes, and removals that wait for a person."""

import hashlib
from dataclasses import dataclass

import pytest

from deployments.ingest.model import Problem
from deployments.ingest.plan import (
    BATCH_BYTES,
    LEAST_BYTES,
    MAX_BATCHES,
    UNKNOWN_BYTES,
    Loss,
    label_batch,
    limit_batch,
    make_batches,
    name_lost,
    weigh,
    withhold_removals,
)


@dataclass(frozen=True)
class Sized:
    uri: str
    size: int | None


def make(sizes: list[int | None]) -> list[Sized]:
    return [Sized(f"knowledge://guides/{number:05}.md", size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [10],
        [BATCH_BYTES * 100],
        [100] * 10_000,
        [None] * 500,
        [BATCH_BYTES * 5, 10] * 100,
        [10, BATCH_BYTES * 1000, 10],
        [BATCH_BYTES - 1, 1] * 200,
    ],
    ids=["none", "one", "large", "many", "unknown", "mixed", "one large", "even"],
)
def test_batches_hold_each_document_once_in_order_and_are_few(sizes: list[int | None]) -> None:
    documents = make(sizes)
    limit = limit_batch(sum(weigh(size) for size in sizes))
    batches = list(make_batches(documents, limit))
    assert [document for part in batches for document in part] == documents
    assert len(batches) <= MAX_BATCHES and all(batches)
    # A document of any size may be the last of a batch.
    assert all(sum(weigh(d.size) for d in part[:-1]) <= limit for part in batches)


def test_a_batch_is_a_quarter_of_a_megabyte_and_more_only_where_there_would_be_too_many() -> None:
    assert limit_batch(10) == limit_batch(MAX_BATCHES * BATCH_BYTES) == BATCH_BYTES
    assert limit_batch(MAX_BATCHES * BATCH_BYTES + 1) == BATCH_BYTES + 1
    assert limit_batch(1_000_000, most=2) == 500_000 and limit_batch(1_000_000, most=0) == 1_000_000
    assert [len(part) for part in make_batches(make([BATCH_BYTES // 2] * 5), BATCH_BYTES)] == [2, 2, 1]


def test_a_document_counts_for_something_whatever_its_size() -> None:
    assert [weigh(size) for size in (0, LEAST_BYTES, 5000, None)] == [
        LEAST_BYTES,
        LEAST_BYTES,
        5000,
        UNKNOWN_BYTES,
    ]


def test_a_label_names_source_first_and_last_and_fits_into_airflows_column() -> None:
    assert label_batch("guides", make([1])) == "guides: 00000.md"
    assert label_batch("guides", make([1] * 3)) == "guides: 00000.md … 00002.md (3)"
    long = [Sized(f"knowledge://guides/{letter * 300}.md", 1) for letter in "ab"]
    label = label_batch("s" * 100, long)
    assert len(label) <= 250 and label.endswith("b.md (2)") and "aaa" in label
    assert len(label.split(": ")[0]) == 60


def make_losses(**had_and_gone: tuple[int, int]) -> dict[str, Loss]:
    losses = {source: Loss(had) for source, (had, _) in had_and_gone.items()}
    for source, (_, gone) in had_and_gone.items():
        for number in range(gone):
            losses[source].add(f"knowledge://{source}/{number}", "h")
    return losses


@pytest.mark.parametrize(
    ("had", "gone", "waits"),
    [(1, 1, True), (2, 1, False), (3, 2, True), (4, 2, False), (10, 6, True), (10, 0, False)],
)
def test_up_to_half_of_a_source_goes_and_more_waits(had: int, gone: int, waits: bool) -> None:
    waiting = withhold_removals(make_losses(a=(had, gone), other=(100, 0)), had + 100, (), 0.5)
    assert bool(waiting) is waits


def test_more_than_half_of_everything_waits_in_every_source() -> None:
    losses = make_losses(a=(4, 2), b=(4, 2), c=(4, 2))
    assert withhold_removals(losses, 12, (), 0.5) == {}
    assert set(withhold_removals(losses, 11, (), 0.5)) == {"a", "b", "c"}
    accepted = [losses["a"].digest]
    assert set(withhold_removals(losses, 11, accepted, 0.5)) == {"b", "c"}


def test_the_share_is_a_setting() -> None:
    losses = make_losses(a=(10, 2), b=(100, 0))
    assert (
        withhold_removals(losses, 110, (), 0.1).keys() == {"a"}
        and withhold_removals(losses, 110, (), 0.2) == {}
    )


def test_a_loss_that_waits_is_named_with_the_way_out() -> None:
    waiting = withhold_removals(make_losses(a=(3, 2), b=(9, 0)), 12, (), 0.5)
    digest = hashlib.sha256(b"knowledge://a/0 h\nknowledge://a/1 h\n").hexdigest()
    assert waiting == {
        "a": Problem(
            "knowledge://a",
            "2 of 3 documents of `a` are gone; they stay in the knowledge base until `ghostwriter knowledge sync "
            "--accept-removals`",
            digest,
        )
    }
    one = withhold_removals(make_losses(a=(1, 1)), 1, (), 0.5)["a"]
    assert "1 of 1 documents of `a` is gone; it stays" in one.message
    assert withhold_removals(make_losses(a=(3, 2)), 12, [digest], 0.5) == {}


def test_documents_that_the_store_lost_are_named_beside_what_else_is_wrong_with_them() -> None:
    lost = "the store lost the earlier version that was kept: posts can't cite it until a run can read the document"
    other, both = Problem("knowledge://a", "binary"), Problem("knowledge://c", "too large", fingerprint="f")
    assert name_lost([both, other], ["knowledge://c", "knowledge://b"]) == [
        Problem("knowledge://c", f"too large; {lost}", fingerprint="f"),
        other,
        Problem("knowledge://b", lost),
    ]
    assert name_lost([both], []) == [both]
