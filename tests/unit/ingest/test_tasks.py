"""The steps of the ingest Dag in their order, on real files and fakes of the store, the provider and the ledger."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from deployments.ingest import composition, ledger, sync, tasks
from deployments.ingest.sources import KnowledgeError, list_sources
from shared.ledger.models import Base, KnowledgeProblem
from shared.ledger.sessions import create_sessions
from shared.llm.fake import FakeLlm
from shared.settings import Settings
from shared.vectors.fake import FakeVectorStore


class Deployment:
    """The ingest deployment without Airflow: `run` does what a Dag run does."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = Settings(state_dir=folder / "state", content_dir=folder / "content")
        self.knowledge = folder / "content/knowledge"
        self.store = FakeVectorStore(created=False)
        self.sessions = create_sessions(f"sqlite:///{folder}/ledger.db")
        Base.metadata.create_all(self.sessions.kw["bind"])
        self.runs = 0

        @contextmanager
        def open_store(settings: Settings) -> Iterator[FakeVectorStore]:
            yield self.store

        monkeypatch.setattr(composition, "open_store", open_store)
        monkeypatch.setattr(composition, "create_llm", lambda settings: FakeLlm())
        monkeypatch.setattr(composition, "create_ledger", lambda settings: self.sessions)

    def save(self, path: str, text: str) -> None:
        (self.knowledge / path).parent.mkdir(parents=True, exist_ok=True)
        (self.knowledge / path).write_text(text)

    def start(self) -> tuple[str, dict[str, int]]:
        self.runs += 1
        run_id = f"manual__2026-11-23T04:00:0{self.runs}+00:00"
        if not tasks.collection_exists(self.settings):
            tasks.create_collection(self.settings)
        return run_id, tasks.plan(self.settings, run_id)

    def run_arm(self, run_id: str, source: str, *, until: str = "ingest") -> None:
        for batch in tasks.extract(self.settings, run_id, source):
            for step in (tasks.split, tasks.prepare, tasks.ingest):
                step(self.settings, run_id, batch)
                if step.__name__ == until:
                    break

    def run(self) -> sync.Outcome:
        run_id, _ = self.start()
        for source in list_sources(self.knowledge):
            self.run_arm(run_id, source)
        return tasks.commit(self.settings, run_id)

    def texts(self) -> dict[str, str]:
        return {chunk.uri: chunk.text for chunk in self.store.iterate()}


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    made = Deployment(tmp_path, monkeypatch)
    made.save("guides/assets.md", "# Assets\n\nold fact")
    made.save("notes/one.txt", "a note")
    yield made
    made.sessions.kw["bind"].dispose()


GUIDE, NOTE = "knowledge://guides/assets.md", "knowledge://notes/one.txt"


def test_the_store_follows_the_files(deployment: Deployment) -> None:
    outcome = deployment.run()
    assert (outcome.written, outcome.documents, outcome.chunks) == (2, 2, 2)
    assert deployment.texts() == {GUIDE: "old fact", NOTE: "a note"}

    deployment.save("guides/assets.md", "# Assets\n\nnew fact")
    (deployment.knowledge / "notes/one.txt").unlink()
    outcome = deployment.run()
    assert (outcome.written, outcome.removed) == (1, 1)
    assert deployment.texts() == {GUIDE: "new fact"}

    again = deployment.run()
    assert (again.written, again.removed, again.digest) == (0, 0, outcome.digest)
    assert not list((deployment.settings.state_dir / "ingest/runs").iterdir())


def test_a_store_that_lost_everything_is_filled_again(deployment: Deployment) -> None:
    first = deployment.run()
    deployment.store.drop_collection()
    outcome = deployment.run()
    assert (outcome.written, outcome.digest) == (2, first.digest)
    assert deployment.texts() == {GUIDE: "old fact", NOTE: "a note"}


def test_a_spoilt_file_is_named_and_keeps_its_earlier_version(deployment: Deployment) -> None:
    deployment.run()
    (deployment.knowledge / "guides/assets.md").write_bytes(b"\xff\xfe")
    run_id, counts = deployment.start()
    assert counts["problems"] == 1
    assert tasks.commit(deployment.settings, run_id).removed == 0
    assert [problem.uri for problem in tasks.list_problems(deployment.settings)] == [GUIDE]
    assert deployment.texts()[GUIDE] == "old fact"


def test_problems_are_those_of_the_latest_plan_since_the_run_that_first_met_them(
    deployment: Deployment,
) -> None:
    def read_rows() -> dict[str, tuple[str, str]]:
        with deployment.sessions() as session:
            rows = session.scalars(select(KnowledgeProblem)).all()
        return {row.uri: (row.message, row.ingest_run) for row in rows}

    (deployment.knowledge / "guides/binary.md").write_bytes(b"a\0b")
    deployment.save("notes/paper.pdf", "%PDF")
    first, _ = deployment.start()
    paper = "knowledge://notes/paper.pdf"
    assert read_rows() == {
        "knowledge://guides/binary.md": ("it is binary: save it as plain text or Markdown", first),
        paper: (".pdf is not read: use .md or .txt", first),
    }

    deployment.save("guides/binary.md", "# Mended")
    deployment.save("guides/empty.md", "")
    second, _ = deployment.start()
    assert {uri: run for uri, (_, run) in read_rows().items()} == {
        "knowledge://guides/empty.md": second,
        paper: first,
    }


def test_files_that_change_under_a_run_are_taken_as_they_are(deployment: Deployment) -> None:
    run_id, _ = deployment.start()
    deployment.save("guides/assets.md", "# Assets\n\nedited meanwhile")
    (deployment.knowledge / "notes/one.txt").unlink()
    for source in ("guides", "notes"):
        deployment.run_arm(run_id, source)
    assert tasks.commit(deployment.settings, run_id).documents == 1
    assert deployment.texts() == {GUIDE: "edited meanwhile"}
    assert deployment.run().written == 0


def test_a_batch_that_failed_is_reported_and_taken_up_by_the_next_run(deployment: Deployment) -> None:
    run_id, _ = deployment.start()
    deployment.run_arm(run_id, "guides")
    deployment.run_arm(run_id, "notes", until="prepare")
    with pytest.raises(sync.IncompleteSyncError, match=r"1 documents are in.*notes/one.txt"):
        tasks.commit(deployment.settings, run_id)
    assert deployment.texts() == {GUIDE: "old fact"}
    assert deployment.run().documents == 2


def test_an_emptied_folder_changes_nothing_and_its_run_has_nothing_to_commit(deployment: Deployment) -> None:
    deployment.run()
    for path in deployment.knowledge.rglob("*.*"):
        path.unlink()
    with pytest.raises(KnowledgeError, match="Nothing was deleted"):
        deployment.start()
    with pytest.raises(KnowledgeError, match="no plan"):
        tasks.commit(deployment.settings, "another run")
    assert len(deployment.texts()) == 2


def test_problems_are_named_even_where_no_file_can_be_used(deployment: Deployment) -> None:
    for path in deployment.knowledge.rglob("*.*"):
        path.write_bytes(b"\xff")
    with pytest.raises(KnowledgeError, match="no usable document"):
        deployment.start()
    assert [problem.uri for problem in tasks.list_problems(deployment.settings)] == [GUIDE, NOTE]


def test_clearing_leaves_the_record_of_old_versions(deployment: Deployment) -> None:
    deployment.save("notes/paper.pdf", "%PDF")
    deployment.run()
    assert tasks.clear(deployment.settings, "clear") == 2
    assert tasks.list_problems(deployment.settings) == []
    assert not deployment.store.collection_exists()
    with deployment.sessions() as session:
        assert ledger.read_current(session) == {}
    assert deployment.run().documents == 2
