"""Old runs, runs side by side and clearings: the newest plan alone changes anything, and store and ledger agree."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from itertools import combinations, count
from typing import Any

import fsspec
import pytest
from sqlalchemy import select

from deployments.ingest import ledger, tasks
from deployments.ingest.clearing import OutdatedRequestError, Request, read_request
from deployments.ingest.errors import IncompleteSyncError, KnowledgeError, OvertakenError, SyncError
from deployments.ingest.handover import HandoverLostError
from deployments.ingest.ledger import Turn
from shared.contracts import CLEAR_BEFORE, CLEAR_VERSION
from shared.knowledge import find_newest_version
from shared.ledger.models import KnowledgeSync, KnowledgeVersion, utc_now
from shared.vectors.fake import FakeVectorStore
from tests.ingest import Deployment, Run
from tests.ledger import Ledgers

Step = Callable[[], object]
REFUSALS = (SyncError, KnowledgeError, HandoverLostError)
GUIDE, NOTE = "knowledge://guides/assets.md", "knowledge://notes/one.txt"
ROAD = ("list_and_scan", "plan", "extract", "load", "commit")
SHORT = (
    "list_and_scan",
    "plan",
    "extract_and_load",
    "commit",
)  # what is read alone changes nothing for others


class EditRun(Run):
    """A run that somebody edits documents before; five steps."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        super().__init__(deployment.ingest, name)
        self.deployment = deployment

    def list_and_scan(self) -> None:
        self.deployment.shelf.put(GUIDE, f"# Assets\n\n{self.name}\n\nkept")
        self.deployment.shelf.put(f"knowledge://guides/{self.name}.md", "# More\n\nmore")
        self.list_sources()
        self.scan()

    def extract_and_load(self) -> None:
        self.extract()
        self.load()

    @property
    def steps(self) -> list[Any]:
        return [getattr(self, name) for name in ROAD]

    @property
    def short(self) -> list[Any]:
        return [getattr(self, name) for name in SHORT]


def interleave(*lengths: int) -> Iterator[list[int]]:
    """All orders in which so many sequences can go side by side, as the number of the sequence at each place."""
    if len(lengths) == 1:
        yield [0] * lengths[0]
        return
    *others, last = lengths
    total = sum(lengths)
    for places in combinations(range(total), last):
        for rest in interleave(*others):
            order, waiting = [], iter(rest)
            for place in range(total):
                order.append(len(others) if place in places else next(waiting))
            yield order


def clear(deployment: Deployment, run: str, request: Request | None = None) -> int:
    return tasks.clear(deployment.ingest, run, request or Request(utc_now() + timedelta(hours=1)))


def walk(deployment: Deployment, order: Iterable[int], sequences: list[list[Step]]) -> None:
    """Take the steps in this order; after each one the store must hold all that the ledger says."""
    waiting = [iter(sequence) for sequence in sequences]
    done: list[str] = []
    for number in order:
        step = next(waiting[number])
        done.append(f"{number}:{step.__name__}")  # type: ignore[attr-defined]
        try:
            step()
        except REFUSALS as error:
            done[-1] += f" ({type(error).__name__})"
        try:
            deployment.check_visible()
        except AssertionError as error:
            raise AssertionError(done) from error
    deployment.sync()
    try:
        deployment.check()
        deployment.check_embedded_once()
    except AssertionError as error:
        raise AssertionError(done) from error


@contextmanager
def make(ledgers: Ledgers) -> Iterator[Deployment]:
    fsspec.filesystem("memory").store.clear()
    with ledgers.make() as sessions:
        deployment = Deployment(sessions)
        deployment.shelf.put(GUIDE, "# Assets\n\nold fact\n\nkept")
        deployment.shelf.put(NOTE, "a note")
        yield deployment


def test_two_runs_side_by_side_never_take_a_chunk_from_the_current_version(ledgers: Ledgers) -> None:
    # The runs are alike: half of the orders is all.
    orders = [order for order in interleave(len(SHORT), len(SHORT)) if order[0] == 0]
    assert len(orders) == 35
    with make(ledgers) as deployment:
        deployment.sync()
        names = count()
        for order in orders:
            # One after the other on one knowledge base: each begins where all is well.
            pair = [EditRun(deployment, f"run-{next(names)}").short for _ in range(2)]
            walk(deployment, order, pair)


def test_a_clearing_beside_a_run_leaves_store_and_ledger_in_agreement(ledgers: Ledgers) -> None:
    for first in (False, True):
        for number, order in enumerate(interleave(len(SHORT), 1)):
            with make(ledgers) as deployment:
                if not first:
                    deployment.sync()

                def clear_it(deployment: Deployment = deployment) -> int:
                    return clear(deployment, "clear")

                walk(deployment, order, [EditRun(deployment, f"run-{number}").short, [clear_it]])


@pytest.fixture
def base(deployment: Deployment) -> Deployment:
    deployment.shelf.put(GUIDE, "# Assets\n\nold fact\n\nkept")
    deployment.shelf.put(NOTE, "a note")
    deployment.sync()
    return deployment


@pytest.mark.parametrize("again", ROAD)
@pytest.mark.parametrize("complete", [False, True])
def test_no_task_of_an_old_run_changes_what_a_newer_one_made(
    base: Deployment, again: str, complete: bool
) -> None:
    old = EditRun(base, "old")
    for step in old.steps[: 5 if complete else 3]:
        step()
    new = EditRun(base, "new")
    for step in new.steps:
        step()
    base.check()
    made = dict(base.store._chunks or {})
    with pytest.raises(REFUSALS) if again != "list_and_scan" else nullcontext():
        getattr(old, again)()
    base.check_visible()
    assert base.store._chunks == made
    base.sync()
    base.check()


def test_an_old_listing_removes_nothing_that_came_since(base: Deployment) -> None:
    old = base.start()
    old.list_sources()
    old.scan()
    base.shelf.put("knowledge://notes/late.txt", "late")
    base.sync()
    with pytest.raises(OvertakenError, match=r"overtaken by manual__3.*since this run listed"):
        old.plan()
    base.check()


def test_a_cleared_commit_of_an_old_failed_run_says_what_to_do_and_changes_nothing(base: Deployment) -> None:
    base.shelf.put(NOTE, "a newer note")
    old = base.start()
    for step in old.steps[:4]:
        step()
    with pytest.raises(IncompleteSyncError):
        old.commit()
    base.shelf.put(GUIDE, "# Assets\n\nnew fact")
    base.sync()
    with pytest.raises(
        OvertakenError, match=r"manual__2 was overtaken by manual__3, which planned.*knowledge sync"
    ):
        old.commit()
    base.check()
    with base.sessions() as session:
        assert session.get_one(KnowledgeSync, "manual__2").outcome == "incomplete"


def test_a_run_planned_again_takes_nothing_that_its_first_try_wrote(base: Deployment) -> None:
    run = EditRun(base, "run")
    for step in run.steps[:4]:
        step()
    run.plan()
    with pytest.raises(IncompleteSyncError, match="0 documents are in, 2 are not"):
        run.commit()
    assert base.read_texts()[GUIDE] == ["old fact", "kept"]
    run.extract()
    run.load()
    run.commit()
    base.check()
    base.check_embedded_once()


def test_a_read_that_is_done_again_replaces_what_was_loaded_before(base: Deployment) -> None:
    run = EditRun(base, "run")
    for step in run.steps[:4]:
        step()
    base.shelf.put(GUIDE, "# Assets\n\nedited meanwhile")
    run.extract()
    with pytest.raises(IncompleteSyncError, match=r"assets\.md"):
        run.commit()  # what was loaded is not what was read last
    assert base.read_texts()[GUIDE] == ["old fact", "kept"]
    run.load()
    run.commit()
    base.check()


def test_failed_tasks_of_the_newest_run_may_be_cleared_with_its_commit(base: Deployment) -> None:
    base.shelf.put(GUIDE, "# Assets\n\nnew fact")
    base.shelf.put(NOTE, "a newer note")
    run = base.start()
    for step in run.steps[:4]:
        step()
    tasks.load(base.ingest, run.name, run.batches[0])
    with pytest.raises(IncompleteSyncError):
        run.commit()
    run.load()
    run.commit()
    base.check()
    with base.sessions() as session:
        state = session.get_one(KnowledgeSync, run.name)
    assert (state.outcome, state.counts["changed"], state.counts["chunks"]) == ("changed", 2, 2)


def test_a_commit_that_is_done_again_says_the_same_until_another_run_has_planned(base: Deployment) -> None:
    base.shelf.put(NOTE, "a newer note")
    run = base.start()
    outcome = run.go()
    run.commit()  # the task was killed before Airflow knew of its end
    assert run.outcome == outcome and outcome.written == 1
    base.shelf.put(NOTE, "another note")
    base.sync()
    with pytest.raises(OvertakenError):
        run.commit()
    base.check()


def test_a_run_that_another_one_overtook_is_recorded_so(base: Deployment) -> None:
    old = EditRun(base, "old")
    for step in old.steps[:4]:
        step()
    base.sync()
    with pytest.raises(OvertakenError):
        old.commit()
    with base.sessions() as session:
        state = session.get_one(KnowledgeSync, "old")
    assert state.outcome == "overtaken" and state.ended_at is not None


class Killed(BaseException):
    """The process dies here."""


class MortalStore(FakeVectorStore):
    """Dies after dropping the collection, or while it deletes the first chunks before it writes them anew."""

    dies = False

    def drop_collection(self) -> None:
        super().drop_collection()
        if self.dies:
            raise Killed

    def write(self, chunks: object, *, fresh: bool = False) -> None:
        if self.dies and chunks:
            self.delete([chunks[0].chunk.id])  # type: ignore[index]
            raise Killed
        super().write(chunks, fresh=fresh)  # type: ignore[arg-type]


def test_a_load_that_is_done_again_leaves_committed_chunks_alone(deployment: Deployment) -> None:
    store = deployment.store = MortalStore(created=False)
    deployment.ingest = deployment.build()
    deployment.shelf.put(GUIDE, "# Assets\n\nold fact")
    run = deployment.start()
    for step in run.steps[:5]:
        step()
    deployment.store = store
    run.commit()
    # Its files are gone with its end; as if it had been incomplete, they are made again.
    deployment.shelf.put(NOTE, "a note")
    again = deployment.start()
    for step in again.steps[:4]:
        step()
    tasks.load(deployment.ingest, again.name, again.batches[0])
    again.commit()
    store.dies = True
    with pytest.raises(REFUSALS):
        tasks.load(deployment.ingest, again.name, again.batches[0])
    deployment.check_visible()


def test_a_load_that_is_cleared_after_an_incomplete_commit_writes_nothing_anew(
    deployment: Deployment,
) -> None:
    store = deployment.store = MortalStore(created=False)
    deployment.ingest = deployment.build()
    deployment.shelf.put(GUIDE, "# Assets\n\nold fact")
    deployment.shelf.put(NOTE, "a note")
    run = deployment.start()
    for step in run.steps[:4]:
        step()
    tasks.load(deployment.ingest, run.name, run.batches[0])
    with pytest.raises(IncompleteSyncError):
        run.commit()
    store.dies = True
    tasks.load(deployment.ingest, run.name, run.batches[0])
    deployment.check_visible()


def test_a_clearing_that_dies_halfway_is_no_way_back_in_for_the_run_beside_it(deployment: Deployment) -> None:
    store = deployment.store = MortalStore(created=False)
    deployment.ingest = deployment.build()
    deployment.shelf.put(NOTE, "a note")
    deployment.sync()
    run = EditRun(deployment, "run")
    for step in run.steps[:3]:
        step()
    store.dies = True
    with pytest.raises(Killed):
        clear(deployment, "clear")
    store.dies = False
    with pytest.raises(OvertakenError):
        run.load()
    with pytest.raises(OvertakenError, match="by clear"):
        run.commit()
    clear(deployment, "clear")  # Airflow tries again
    deployment.check({})
    assert clear(deployment, "clear") == 0  # and once more, after a kill at the very end
    assert deployment.sync().documents == 3
    deployment.check()
    deployment.check_embedded_once()


def count_versions(deployment: Deployment) -> int:
    with deployment.sessions() as session:
        return len(session.scalars(select(KnowledgeVersion)).all())


def test_a_clearing_that_waited_too_long_clears_nothing_and_stops_nobody(base: Deployment) -> None:
    run = EditRun(base, "run")
    for step in run.steps[:2]:
        step()
    with pytest.raises(OutdatedRequestError, match="knowledge clear"):
        clear(base, "clear", read_request({}, utc_now() - timedelta(hours=2)))
    before = (utc_now() - timedelta(seconds=1)).isoformat()
    with pytest.raises(OutdatedRequestError, match="nothing was cleared"):
        clear(base, "clear", read_request({CLEAR_BEFORE: before, CLEAR_VERSION: 1}, utc_now()))
    for step in run.steps[2:]:
        step()
    base.check()
    assert count_versions(base) == 2


def test_a_clearing_is_of_the_version_that_the_person_saw(base: Deployment) -> None:
    soon = (utc_now() + timedelta(minutes=5)).isoformat()
    with pytest.raises(OutdatedRequestError, match=r"at version none .* at 1 now"):
        clear(base, "clear", read_request({CLEAR_BEFORE: soon, CLEAR_VERSION: None}, utc_now()))
    base.check()
    assert clear(base, "clear", read_request({CLEAR_BEFORE: soon, CLEAR_VERSION: 1}, utc_now())) == 2
    base.check({})
    # The same run cleared in Airflow, days later or at once: what came since stays.
    base.sync()
    with pytest.raises(OutdatedRequestError, match="at version 1"):
        clear(base, "clear", read_request({CLEAR_BEFORE: soon, CLEAR_VERSION: 1}, utc_now()))
    base.check()


def test_a_clearing_before_the_first_ingestion_has_nothing_to_do(deployment: Deployment) -> None:
    soon = utc_now() + timedelta(hours=1)
    assert clear(deployment, "clear", Request(soon, any_version=False, version=None)) == 0


def test_clearing_leaves_the_record_of_old_versions_and_no_vector_is_made_again(base: Deployment) -> None:
    assert clear(base, "clear") == 2
    base.check({})
    assert not base.store.collection_exists() and tasks.list_problems(base.ingest) == []
    with base.sessions() as session:
        newest = find_newest_version(session)
        assert newest is not None and (newest.documents, newest.chunks) == (0, 0)
    outcome = base.sync()
    assert (outcome.documents, outcome.counts["embedded"]) == (2, 0)
    base.check()
    base.check_embedded_once()


def test_who_was_overtaken_learns_by_whom(base: Deployment) -> None:
    rest = (
        ", which planned after it or cleared the knowledge base. Nothing was changed: its plan is out of date. The "
        "next run does what is left; `ghostwriter knowledge sync` starts one."
    )
    with base.sessions.begin() as session:
        first = ledger.take_turn(session, "run1")
    assert first == Turn(2, "run1")
    for run, by in (("run1", "by a newer try of this run"), ("run2", "by run2")):
        with base.sessions.begin() as session:
            ledger.take_turn(session, run)
        for shared in (False, True):
            with (
                pytest.raises(OvertakenError) as error,
                ledger.hold_turn(base.sessions, first, shared=shared),
            ):
                raise AssertionError("it is another's turn")
            assert str(error.value) == f"run1 was overtaken {by}{rest}"


def test_the_same_event_ten_times_is_one_change(base: Deployment) -> None:
    base.shelf.put(NOTE, "a newer note")
    outcomes = [base.sync() for _ in range(10)]
    assert [outcome.written for outcome in outcomes] == [1, *[0] * 9]
    assert len({outcome.digest for outcome in outcomes}) == 1
    base.check()
    base.check_embedded_once()
