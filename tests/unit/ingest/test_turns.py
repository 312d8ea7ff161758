"""Old runs, runs side by side and clearings: the newest plan alone changes anything, and store and ledger agree."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import pytest
from sqlalchemy import select

from deployments.ingest import sync, tasks
from deployments.ingest.clearing import OutdatedRequestError, read_request
from deployments.ingest.sources import KnowledgeError
from shared.contracts import CLEAR_BEFORE, CLEAR_VERSION
from shared.ledger.models import KnowledgeVersion, utc_now
from shared.vectors.fake import FakeVectorStore
from tests.unit.ingest.conftest import GUIDE, NOTE, Deployment

Step = Callable[[], object]
REFUSALS = (sync.SyncError, KnowledgeError, FileNotFoundError)


class IngestRun:
    """A Dag run in four steps; a step that is cleared in Airflow is called again."""

    def __init__(self, deployment: Deployment, run_id: str, *, edit: bool = False) -> None:
        self.deployment, self.run_id, self.edit = deployment, run_id, edit
        self.batches: dict[str, list[tasks.Batch]] = {"guides": [], "notes": []}
        self.steps: list[Step] = [self.plan, self.write_guides, self.write_notes, self.commit]

    def plan(self) -> None:
        if self.edit:
            self.deployment.save("guides/assets.md", f"# Assets\n\n{self.run_id}")
            self.deployment.save(f"guides/{self.run_id}.md", "# More\n\nmore")
        if not tasks.collection_exists(self.deployment.settings):
            tasks.create_collection(self.deployment.settings)
        tasks.plan(self.deployment.settings, self.run_id)

    def write_guides(self) -> None:
        self._write("guides")

    def write_notes(self) -> None:
        self._write("notes")

    def ingest_again(self, source: str) -> None:
        """The mapped task `ingest` alone."""
        for batch in self.batches[source]:
            tasks.ingest(self.deployment.settings, self.run_id, batch)

    def commit(self) -> sync.Outcome:
        return tasks.commit(self.deployment.settings, self.run_id)

    def _write(self, source: str) -> None:
        settings = self.deployment.settings
        self.batches[source] = tasks.extract(settings, self.run_id, source)
        for batch in self.batches[source]:
            for step in (tasks.split, tasks.prepare, tasks.ingest):
                step(settings, self.run_id, batch)


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
        assert deployment.find_lost() == set(), done
    assert deployment.run().documents > 0
    assert deployment.find_lost() == set(), done
    assert deployment.texts() == {
        f"knowledge://{path.parent.name}/{path.name}": path.read_text().split("\n\n")[-1]
        for path in deployment.knowledge.glob("*/*.*")
    }, done


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Deployment]]:
    made: list[Deployment] = []

    def build() -> Deployment:
        (folder := tmp_path / str(len(made))).mkdir()
        deployment = Deployment(folder, monkeypatch)
        made.append(deployment)
        deployment.save("guides/assets.md", "# Assets\n\nold fact")
        deployment.save("notes/one.txt", "a note")
        return deployment

    yield build
    for deployment in made:
        deployment.close()


def test_two_runs_side_by_side_never_take_a_chunk_from_the_current_version(
    make: Callable[[], Deployment],
) -> None:
    orders = [order for order in interleave(4, 4) if order[0] == 0]  # the runs are alike: half of them is all
    assert len(orders) == 35
    for order in orders:
        deployment = make()
        deployment.run()
        walk(deployment, order, [IngestRun(deployment, name, edit=True).steps for name in ("a", "b")])


def test_a_clearing_beside_a_run_leaves_store_and_ledger_in_agreement(make: Callable[[], Deployment]) -> None:
    for first in (False, True):
        for order in interleave(4, 1):
            deployment = make()
            if not first:
                deployment.run()
            walk(
                deployment,
                order,
                [IngestRun(deployment, "a", edit=True).steps, [lambda d=deployment: d.clear("clear")]],  # type: ignore[misc]
            )


def test_no_task_of_an_old_run_changes_what_a_newer_one_made(make: Callable[[], Deployment]) -> None:
    for complete in (False, True):
        for again in ("plan", "write_guides", "write_notes", "ingest_again", "commit"):
            deployment = make()
            deployment.run()
            old = IngestRun(deployment, "old", edit=True)
            old.plan()
            old.write_guides()
            if complete:
                old.write_notes()
            if complete:
                old.commit()
            else:
                deployment.save("notes/one.txt", "another note")
            new = IngestRun(deployment, "new", edit=True)
            for step in new.steps:
                step()
            made = deployment.texts()
            if again == "plan":  # cleared with everything after it: a run like any other
                walk(deployment, [0] * 4, [old.steps])
                continue
            refusal = pytest.raises(REFUSALS) if again in ("ingest_again", "commit") else suppress(*REFUSALS)
            with refusal:
                old.ingest_again("guides") if again == "ingest_again" else getattr(old, again)()
            assert deployment.texts() == made and deployment.find_lost() == set()


def test_a_cleared_commit_of_an_old_failed_run_says_what_to_do_and_changes_nothing(
    deployment: Deployment,
) -> None:
    old = IngestRun(deployment, "old")
    old.plan()
    old.write_guides()
    with pytest.raises(sync.IncompleteSyncError):
        old.commit()
    deployment.save("guides/assets.md", "# Assets\n\nnew fact")
    deployment.run()
    with pytest.raises(sync.OvertakenError, match=r"old was overtaken by manual__.*knowledge sync"):
        old.commit()
    assert deployment.texts() == {GUIDE: "new fact", NOTE: "a note"}


def test_a_run_planned_again_takes_nothing_that_its_first_try_wrote(deployment: Deployment) -> None:
    run = IngestRun(deployment, "run", edit=True)
    run.plan()
    run.write_guides()
    run.plan()
    with pytest.raises(sync.IncompleteSyncError, match="0 documents are in, 3 are not"):
        run.commit()
    assert deployment.texts() == {}


def test_a_read_that_is_done_again_replaces_what_was_written_before(deployment: Deployment) -> None:
    run = IngestRun(deployment, "run")
    run.plan()
    run.write_guides()
    run.write_notes()
    deployment.save("guides/assets.md", "# Assets\n\nedited meanwhile")
    first = run.batches["guides"]
    run.batches["guides"] = tasks.extract(deployment.settings, "run", "guides")
    with pytest.raises(sync.IncompleteSyncError, match=r"assets\.md"):
        run.commit()  # what was written is not what was read last
    assert deployment.texts() == {NOTE: "a note"}
    assert first == run.batches["guides"]


def test_failed_tasks_of_the_newest_run_may_be_cleared_with_its_commit(deployment: Deployment) -> None:
    run = IngestRun(deployment, "run")
    run.plan()
    run.write_guides()
    with pytest.raises(sync.IncompleteSyncError):
        run.commit()
    run.write_notes()
    run.ingest_again("guides")
    assert run.commit().documents == 2
    assert deployment.texts() == {GUIDE: "old fact", NOTE: "a note"} and deployment.find_lost() == set()


def test_a_commit_that_is_done_again_says_the_same_until_another_run_has_planned(
    deployment: Deployment,
) -> None:
    run = IngestRun(deployment, "run")
    for step in run.steps:
        step()
    outcome = run.commit()  # the task was killed before Airflow knew of its end
    assert (outcome.documents, outcome.written, outcome.missing) == (2, 2, ())
    assert outcome == run.commit()
    deployment.save("notes/one.txt", "another note")
    deployment.run()
    with pytest.raises(sync.OvertakenError):
        run.commit()
    assert deployment.texts()[NOTE] == "another note"


class Killed(BaseException):
    """The process dies here."""


class MortalStore(FakeVectorStore):
    """Dies after dropping the collection, or while it deletes the first chunks before it writes them anew."""

    dies = False

    def drop_collection(self) -> None:
        super().drop_collection()
        if self.dies:
            raise Killed

    def write(self, chunks: object) -> None:
        if self.dies and chunks:
            self.delete([chunks[0].chunk.id])  # type: ignore[index]
            raise Killed
        super().write(chunks)  # type: ignore[arg-type]


def test_an_ingest_task_that_is_done_again_leaves_committed_chunks_alone(deployment: Deployment) -> None:
    store = deployment.store = MortalStore(created=False)
    run = IngestRun(deployment, "run")
    run.plan()
    run.write_guides()
    with pytest.raises(sync.IncompleteSyncError):
        run.commit()
    store.dies = True
    run.ingest_again("guides")
    assert deployment.find_lost() == set()


def test_a_clearing_that_dies_halfway_is_no_way_back_in_for_the_run_beside_it(deployment: Deployment) -> None:
    store = deployment.store = MortalStore(created=False)
    deployment.run()
    run = IngestRun(deployment, "run", edit=True)
    run.plan()
    run.write_guides()
    store.dies = True
    with pytest.raises(Killed):
        deployment.clear("clear")
    store.dies = False
    with pytest.raises(sync.OvertakenError):
        run.write_notes() if run.batches["notes"] else run.ingest_again("guides")
    with pytest.raises(sync.OvertakenError, match="by clear"):
        run.commit()
    deployment.clear("clear")  # Airflow tries again
    assert deployment.find_lost() == set()
    assert deployment.clear("clear") == 0  # and once more, after a kill at the very end
    assert deployment.run().documents == 3


def count_versions(deployment: Deployment) -> int:
    with deployment.sessions() as session:
        return len(session.scalars(select(KnowledgeVersion)).all())


def test_a_clearing_that_waited_too_long_clears_nothing_and_stops_nobody(deployment: Deployment) -> None:
    deployment.run()
    run = IngestRun(deployment, "run", edit=True)
    run.plan()
    with pytest.raises(OutdatedRequestError, match="knowledge clear"):
        deployment.clear("clear", read_request({}, utc_now() - timedelta(hours=2)))
    before = (utc_now() - timedelta(seconds=1)).isoformat()
    with pytest.raises(OutdatedRequestError, match="nothing was cleared"):
        deployment.clear("clear", read_request({CLEAR_BEFORE: before, CLEAR_VERSION: 1}, utc_now()))
    run.write_guides()
    assert run.commit().documents == 3
    assert deployment.find_lost() == set() and count_versions(deployment) == 2


def test_a_clearing_is_of_the_version_that_the_person_saw(deployment: Deployment) -> None:
    soon = (utc_now() + timedelta(minutes=5)).isoformat()
    deployment.run()
    with pytest.raises(OutdatedRequestError, match=r"at version none .* at 1 now"):
        deployment.clear("clear", read_request({CLEAR_BEFORE: soon, CLEAR_VERSION: None}, utc_now()))
    assert deployment.texts() == {GUIDE: "old fact", NOTE: "a note"}
    assert deployment.clear("clear", read_request({CLEAR_BEFORE: soon, CLEAR_VERSION: 1}, utc_now())) == 2
    # The same run cleared in Airflow, days later or at once: what came since stays.
    deployment.run()
    with pytest.raises(OutdatedRequestError, match="at version 1"):
        deployment.clear("clear", read_request({CLEAR_BEFORE: soon, CLEAR_VERSION: 1}, utc_now()))
    assert deployment.find_lost() == set() and len(deployment.texts()) == 2


def test_a_document_that_moved_to_another_batch_is_committed_as_it_was_read_last(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.ingest.plan.BATCH_SIZE", 1)
    deployment.save("guides/before.md", "# Before\n\nin the last batch")
    (deployment.knowledge / "guides/assets.md").rename(deployment.knowledge / "guides/a.md")
    run_id, _ = deployment.start()
    for source in ("guides", "notes"):
        deployment.run_arm(run_id, source)
    (deployment.knowledge / "guides/a.md").unlink()
    deployment.save("guides/before.md", "# Before\n\nin the first batch")
    deployment.run_arm(run_id, "guides")  # `extract` was cleared, with all after it
    tasks.commit(deployment.settings, run_id)
    assert deployment.texts() == {
        "knowledge://guides/before.md": "in the first batch",
        NOTE: "a note",
    }
