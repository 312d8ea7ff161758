"""The steps of the ingest Dag in their order, on real files and fakes of the store, the provider and the ledger."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from deployments.ingest import ledger, sync, tasks
from deployments.ingest.sources import KnowledgeError
from shared.ledger.models import KnowledgeProblem
from tests.unit.ingest.conftest import GUIDE, NOTE, Deployment, close_folder


def test_the_store_follows_the_files(deployment: Deployment) -> None:
    outcome = deployment.run()
    assert (outcome.written, outcome.documents, outcome.chunks) == (2, 2, 2)
    assert deployment.texts() == {GUIDE: "old fact", NOTE: "a note"}

    deployment.save("guides/assets.md", "# Assets\n\nnew fact")
    deployment.save("notes/two.txt", "another note")
    deployment.run()
    (deployment.knowledge / "notes/one.txt").unlink()
    outcome = deployment.run()
    assert (outcome.written, outcome.removed) == (0, 1)
    assert deployment.texts() == {GUIDE: "new fact", "knowledge://notes/two.txt": "another note"}

    again = deployment.run()
    assert (again.written, again.removed, again.digest) == (0, 0, outcome.digest)
    left = (deployment.settings.state_dir / "ingest/runs").glob("*/*")
    assert {path.name for path in left} == {"done.jsonl"}


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
    assert deployment.clear("clear") == 2
    assert tasks.list_problems(deployment.settings) == []
    assert not deployment.store.collection_exists()
    with deployment.sessions() as session:
        assert ledger.read_current(session) == {}
    assert deployment.run().documents == 2


@pytest.mark.parametrize(
    "end",
    ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"],
    ids=lambda end: f"U+{ord(end):04X}",
)
def test_a_document_may_hold_any_line_end(deployment: Deployment, end: str) -> None:
    deployment.save("guides/assets.md", f"# Assets{end}and more\n\na fact{end}of old")
    deployment.save("notes/one.txt", f"a{end}note")
    assert deployment.run().documents == 2
    assert deployment.texts()[NOTE] == f"a{end}note"
    assert "of old" in deployment.texts()[GUIDE]


def test_a_file_that_cannot_be_read_after_the_store_lost_it_is_named_and_stops_no_run(
    deployment: Deployment,
) -> None:
    deployment.run()
    (deployment.knowledge / "guides/assets.md").write_bytes(b"\xff\xfe")
    deployment.store.drop_collection()
    deployment.save("notes/two.txt", "another note")
    met = set()
    for _ in range(3):  # and again, for as long as the file is bad
        assert deployment.run().documents == 3
        with deployment.sessions() as session:
            met.update(session.scalars(select(KnowledgeProblem.ingest_run)))
        (problem,) = tasks.list_problems(deployment.settings)
        assert problem.uri == GUIDE
        assert "save it as UTF-8" in problem.message and "the store lost" in problem.message
        assert deployment.texts() == {NOTE: "a note", "knowledge://notes/two.txt": "another note"}

    assert len(met) == 1
    deployment.save("guides/assets.md", "# Assets\n\nold fact")
    assert deployment.run().written == 1
    assert deployment.texts()[GUIDE] == "old fact" and tasks.list_problems(deployment.settings) == []


def test_what_a_folder_that_cannot_be_read_held_is_named_where_the_store_lost_it(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.save("guides/deep/inner.md", "# Inner\n\ninner")
    deployment.run()
    close_folder(monkeypatch, "deep")
    deployment.store.drop_collection()
    assert deployment.run().written == 2
    problems = {problem.uri: problem.message for problem in tasks.list_problems(deployment.settings)}
    assert set(problems) == {"knowledge://guides/deep", "knowledge://guides/deep/inner.md"}
    assert "the store lost" in problems["knowledge://guides/deep/inner.md"]


def test_a_batch_that_failed_is_named_before_chunks_that_the_store_lost(deployment: Deployment) -> None:
    deployment.run()
    deployment.store.drop_collection()
    run_id, _ = deployment.start()
    deployment.run_arm(run_id, "guides")
    with pytest.raises(sync.IncompleteSyncError, match=r"notes/one\.txt"):
        tasks.commit(deployment.settings, run_id)
    assert deployment.run().written == 1
    assert deployment.texts() == {GUIDE: "old fact", NOTE: "a note"}


def test_a_source_removed_while_a_run_is_at_work_fails_nothing(deployment: Deployment) -> None:
    """Airflow drops the tasks of its arm; nothing is left that could read it, or say why it did not."""
    deployment.save("guides/late.md", "# Late\n\nlate fact")
    deployment.save("notes/two.txt", "another note")
    run_id, _ = deployment.start()
    shutil.rmtree(deployment.knowledge / "guides")
    deployment.run_arm(run_id, "notes")
    outcome = tasks.commit(deployment.settings, run_id)
    assert outcome.written == 2 and set(outcome.missing) == {GUIDE, "knowledge://guides/late.md"}
    assert deployment.run().written == 0
    assert set(deployment.texts()) == {NOTE, "knowledge://notes/two.txt"}


def test_a_source_removed_while_a_run_is_at_work_keeps_what_was_there(deployment: Deployment) -> None:
    deployment.run()
    deployment.save("guides/assets.md", "# Assets\n\nnew fact")
    run_id, _ = deployment.start()
    shutil.rmtree(deployment.knowledge / "guides")
    tasks.commit(deployment.settings, run_id)
    assert deployment.texts()[GUIDE] == "old fact"
    assert deployment.run().removed == 0  # for a person to accept
    assert [problem.uri for problem in tasks.list_problems(deployment.settings)] == ["knowledge://guides"]


def test_a_document_of_more_chunks_than_are_held_at_once_and_many_small_ones_are_written(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "CHUNKS_AT_ONCE", 3)
    deployment.save("guides/assets.md", "\n\n".join(f"paragraph {n} " * 30 for n in range(8)))
    for number in range(7):
        deployment.save(f"guides/{number}.md", f"# Small\n\n{number}")
    outcome = deployment.run()
    assert outcome.documents == 9 and outcome.chunks == len(list(deployment.store.iterate()))
    assert {str(n) for n in range(7)} <= set(deployment.texts().values())


def test_a_path_too_long_for_the_ledger_is_a_problem_of_its_own(deployment: Deployment) -> None:
    deep = "guides/" + "/".join(f"{'ö' * 100}{n}" for n in range(11))
    deployment.save("guides/" + "n" * 240 + ".md", "# Long name\n\nlong")
    try:
        deployment.save(f"{deep}/too.md", "# Deep\n\ndeep")
    except OSError:
        pytest.skip("this file system takes no path of that length")
    assert deployment.run().documents == 3
    (problem,) = tasks.list_problems(deployment.settings)
    assert "longer than 1,024 characters" in problem.message and problem.uri.endswith("too.md")


def lose_by_broken_link(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.parent / "unmounted")


def lose_by_empty_mount(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def lose_by_linked_folder(folder: Path) -> None:
    folder.rename(folder.parent / ".moved")
    folder.mkdir()
    (folder / "deep").symlink_to(folder.parent / ".moved/deep")
    shutil.copy(folder.parent / ".moved/one.txt", folder)


def lose_by_deletion(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "lose", [lose_by_broken_link, lose_by_empty_mount, lose_by_linked_folder, lose_by_deletion]
)
def test_a_lost_folder_takes_no_document_along_and_is_named_while_the_rest_is_committed(
    deployment: Deployment, lose: Any
) -> None:
    for number in range(4):
        deployment.save(f"notes/deep/{number}.txt", f"deep note {number}")
        deployment.save(f"guides/{number}.md", f"# Guide {number}\n\nkept")
    deployment.run()
    before = deployment.texts()
    lose(deployment.knowledge / "notes")
    deployment.save("guides/new.md", "# New\n\na new fact")
    outcome = deployment.run()
    assert (outcome.written, outcome.removed, outcome.missing) == (1, 0, ())
    assert deployment.texts() == before | {"knowledge://guides/new.md": "a new fact"}
    named = [problem.uri for problem in tasks.list_problems(deployment.settings)]
    assert named and all(uri.startswith("knowledge://notes") for uri in named)


def read_accepted(deployment: Deployment) -> list[str]:
    with deployment.sessions() as session:
        return [row.removal for row in session.scalars(select(KnowledgeProblem)) if row.removal]


def test_accepted_removals_go_and_the_acceptance_covers_no_later_loss(deployment: Deployment) -> None:
    deployment.save("notes/two.txt", "another note")
    deployment.run()
    shutil.rmtree(deployment.knowledge / "notes")
    assert deployment.run().removed == 0
    accepted = read_accepted(deployment)
    assert deployment.run().removed == 0, "a run that nobody agreed to"
    assert deployment.run(accepted=accepted).removed == 2
    assert tasks.list_problems(deployment.settings) == []

    deployment.save("notes/one.txt", "a note, written anew")
    deployment.run()
    shutil.rmtree(deployment.knowledge / "notes")
    assert deployment.run(accepted=accepted).removed == 0
    assert read_accepted(deployment) not in ([], accepted)


def test_a_base_whose_only_source_is_gone_can_be_emptied_by_accepting_that(deployment: Deployment) -> None:
    deployment.run()
    for name in ("guides", "notes"):
        lose_by_empty_mount(deployment.knowledge / name)
    with pytest.raises(KnowledgeError, match="Nothing was deleted"):
        deployment.start()
    assert deployment.run(accepted=read_accepted(deployment)).documents == 0
    assert deployment.texts() == {}


def test_a_source_that_joins_a_run_late_is_left_to_the_next_one(deployment: Deployment) -> None:
    deployment.save("outside/new.md", "# New\n\na fact from outside")
    run_id, counts = deployment.start(arms={"guides", "notes"})
    assert (counts["added"], counts["problems"]) == (2, 1)
    with pytest.raises(tasks.SourceNotPlannedError):
        tasks.extract(deployment.settings, run_id, "outside")
    for source in ("guides", "notes"):
        deployment.run_arm(run_id, source)
    outcome = tasks.commit(deployment.settings, run_id)
    assert (outcome.documents, outcome.missing) == (2, ())
    with pytest.raises(tasks.SourceNotPlannedError):
        tasks.extract(deployment.settings, run_id, "outside")  # the run is over
    assert deployment.run().documents == 3
    assert tasks.list_problems(deployment.settings) == []
