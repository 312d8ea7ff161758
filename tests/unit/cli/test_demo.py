"""The demo on a system in memory: it waits, compares, audits, edits, and puts everything back."""

import hashlib
import json
import shutil
from pathlib import Path

import httpx
import pytest

from cli.demo import FACT, choose_document, wait_for_champion
from cli.main import run
from cli.output import CommandError
from cli.training_progress import describe_progress
from shared import contracts
from tests.unit.cli.fakes import CHAIN, POST_ID, FakeSystem

ORIGINAL = b"# Assets\n"


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    system = FakeSystem(tmp_path)
    folder = system.settings.content_dir / "knowledge" / "guides"
    folder.mkdir(parents=True)
    (folder / "assets.md").write_bytes(ORIGINAL)
    shutil.copy("content/voice.toml", system.settings.content_dir)
    return system


def cite(system: FakeSystem, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    chain = CHAIN | {"sources": [CHAIN["sources"][0] | {"content_hash": digest}]}  # type: ignore[index]
    system.serving.answers[("GET", f"/api/posts/{POST_ID}/audit")] = httpx.Response(200, json=chain)


def test_the_whole_demo(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    system.crown()
    cite(system, ORIGINAL + FACT)
    assert run(["demo", "--json"], connection=system.connection) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["champion"] == "1"
    assert answer["fact_content_hash"] == hashlib.sha256(ORIGINAL + FACT).hexdigest()
    assert choose_document(system.settings.content_dir).read_bytes() == ORIGINAL
    asked = [body["model"] for method, path, body in system.serving.requests if path == "/api/posts"]
    assert asked == ["base", "champion", "champion"]
    assert sum(path == "/api/knowledge/sync" for _, path, _ in system.serving.requests) == 2


def test_it_reads_well(system: FakeSystem, capsys: pytest.CaptureFixture[str]) -> None:
    system.crown()
    cite(system, ORIGINAL + FACT)
    assert run(["demo"], connection=system.connection) == 0
    out = capsys.readouterr().out
    for title in (
        "1. The first champion",
        "2. One topic, two models",
        "3. Where",
        "4. A new fact in assets.md",
    ):
        assert title in out


def test_an_answer_without_the_new_fact_is_no_success_and_the_document_is_put_back(
    system: FakeSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    system.crown()
    assert run(["demo"], connection=system.connection) == 1
    assert "does not cite" in capsys.readouterr().err
    assert choose_document(system.settings.content_dir).read_bytes() == ORIGINAL
    assert sum(path == "/api/knowledge/sync" for _, path, _ in system.serving.requests) == 2


def wait(system: FakeSystem, timeout: float = 0.05) -> str:
    return wait_for_champion(system.connection, timeout=timeout, say=lambda _text: None, poll_seconds=0.01)


def test_waiting_ends_when_training_failed(system: FakeSystem) -> None:
    system.training.add_run(contracts.PREPARE_DAG, "success")
    system.training.add_run(contracts.FINE_TUNE_DAG, "failed")
    with pytest.raises(CommandError, match="fine_tune failed"):
        wait(system)


def test_waiting_ends_when_the_challenger_lost(system: FakeSystem) -> None:
    system.training.add_run(contracts.PROMOTE_DAG, "success")
    with pytest.raises(CommandError, match="without a champion"):
        wait(system)


def test_waiting_ends_when_nothing_was_bought(system: FakeSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.demo.IDLE_SECONDS", 0.05)
    system.training.add_run(contracts.FINE_TUNE_DAG, "success")
    with pytest.raises(CommandError, match="ended with fine_tune"):
        wait(system, timeout=30)


def test_waiting_ends_at_once_when_the_examples_cannot_be_used(system: FakeSystem) -> None:
    system.training.blocker = "bad_format"
    system.training.add_run(contracts.FINE_TUNE_DAG, "success")
    with pytest.raises(CommandError, match=r"bad_format\): train/a.md:1: no front matter; train/b.md"):
        wait(system, timeout=30)


def test_waiting_has_a_limit(system: FakeSystem) -> None:
    with pytest.raises(CommandError, match="No champion after"):
        wait(system)


def test_progress_names_the_task_and_the_job(system: FakeSystem) -> None:
    system.training.add_run(contracts.PREPARE_DAG, "success")
    system.training.add_run(contracts.FINE_TUNE_DAG, "running")
    system.jobs.append({"id": "ftjob-1", "status": "running", "message": "Step 12/48: training loss=2.31"})
    progress = describe_progress(
        system.training, [contracts.PREPARE_DAG, contracts.FINE_TUNE_DAG], system.connection.list_jobs
    )
    assert progress.text == ("fine_tune 1/2 fine_tune deferred · job running: Step 12/48: training loss=2.31")
    assert not progress.decided
