"""What keeps a training set from being bought: each reason is a branch of its own, and none makes a job."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import contracts

pytestmark = pytest.mark.timeout(600)

REFUSALS = {
    "no_training_examples",
    "no_validation_examples",
    "no_holdout_examples",
    "bad_format",
    "over_budget",
}


def empty(folder: Path) -> None:
    for path in folder.rglob("*.md"):
        path.unlink()


def without_training_examples(content: Path) -> None:
    empty(content / "examples" / "train")


def without_validation_examples(content: Path) -> None:
    empty(content / "examples" / "validation")


def without_a_holdout(content: Path) -> None:
    shutil.rmtree(content / "examples" / "holdout")


def with_a_malformed_example(content: Path) -> None:
    (content / "examples" / "train" / "broken.md").write_text("---\nno topic here\n---\nText\n")


def with_too_small_a_budget(content: Path) -> None:
    voice = content / "voice.toml"
    lines = [
        "max_training_cost = 0.000001" if line.startswith("max_training_cost") else line
        for line in voice.read_text().splitlines()
    ]
    voice.write_text("\n".join(lines) + "\n")
    # The same examples as last time are not due at all: the price is asked of new ones.
    post = content / "examples" / "train" / "mlflow-aliases-again.md"
    post.write_text(next((content / "examples" / "train").glob("*.md")).read_text().replace("?", "? Really?"))


@pytest.mark.parametrize(
    ("outcome", "spoil"),
    [
        ("no_training_examples", without_training_examples),
        ("no_validation_examples", without_validation_examples),
        ("no_holdout_examples", without_a_holdout),
        ("bad_format", with_a_malformed_example),
        ("over_budget", with_too_small_a_budget),
    ],
)
def test_branch(stack, training, tmp_path: Path, outcome: str, spoil: Callable[[Path], None]) -> None:
    saved = tmp_path / "content"
    shutil.copytree(stack.content_dir, saved)
    jobs = len(stack.list_jobs())
    known = training.known(contracts.FINE_TUNE_DAG)
    # Refusals in a row may have paused the Dag: that is its job, and not what is tested here.
    training.http.patch(
        f"/api/v2/dags/{contracts.FINE_TUNE_DAG}", json={"is_paused": False}
    ).raise_for_status()
    try:
        spoil(stack.content_dir)
        training.post_event(contracts.EXAMPLES_ASSET, {contracts.IDEMPOTENCY_KEY: uuid.uuid4().hex})
        run = training.wait_for_new_run(contracts.FINE_TUNE_DAG, known, timeout=240)
    finally:
        shutil.rmtree(stack.content_dir)
        shutil.copytree(saved, stack.content_dir)
    states = training.task_states(run)
    assert states[outcome] not in ("skipped", None), states
    assert {states[other] for other in REFUSALS - {outcome}} == {"skipped"}
    assert states["fine_tune"] == "skipped"
    assert len(stack.list_jobs()) == jobs


def test_the_examples_as_they_were_are_fine_again(stack, training) -> None:
    jobs = len(stack.list_jobs())
    known = training.known(contracts.PREPARE_DAG)
    training.http.patch(
        f"/api/v2/dags/{contracts.FINE_TUNE_DAG}", json={"is_paused": False}
    ).raise_for_status()
    training.post_event(contracts.EXAMPLES_ASSET, {contracts.IDEMPOTENCY_KEY: uuid.uuid4().hex})
    assert training.wait_for_new_run(contracts.PREPARE_DAG, known, timeout=240)["state"] == "success"
    assert len(stack.list_jobs()) == jobs
