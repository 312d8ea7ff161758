"""From examples to the first champion, which then answers; the same examples again make no second job."""

import pytest

from shared import contracts
from tests.e2e.running_stack import wait_until

pytestmark = pytest.mark.timeout(1500)

FIRST_CHAMPION_SECONDS = 1200


def test_the_first_champion_is_chosen(stack, training) -> None:
    def find() -> object:
        failed = [
            run["dag_run_id"]
            for dag_id in (contracts.PREPARE_DAG, contracts.FINE_TUNE_DAG, contracts.PROMOTE_DAG)
            for run in training.runs(dag_id)
            if run["state"] == "failed"
        ]
        assert not failed, failed
        return stack.ghostwriter("train", "status")["champion"]

    champion = wait_until(find, timeout=FIRST_CHAMPION_SECONDS, what="champion", every=5)
    assert champion["version"] == "1"
    assert contracts.CHAMPION_ALIAS in champion["aliases"]
    assert champion["scores"]
    assert len(champion["training_set"]) == 64
    assert len(stack.list_jobs()) == 1
    stack.notes["champion"] = champion


def test_the_champion_answers(stack) -> None:
    post = stack.ghostwriter("write", "MLflow model aliases")
    assert post["model"]["version"] == "1"
    assert post["model"]["alias"] == contracts.CHAMPION_ALIAS
    chain = stack.ghostwriter("audit", "post", post["post_id"])
    assert chain["model"]["training_set"] == stack.notes["champion"]["training_set"]
    assert chain["model"]["job_id"] == stack.list_jobs()[0]["id"]
    assert chain["model"]["run_id"]


def test_the_first_post_is_still_the_base_models(stack) -> None:
    if "first_post" not in stack.notes:
        pytest.skip("the first post was written by another test that did not run")
    assert stack.ghostwriter("audit", "post", stack.notes["first_post"])["model"]["version"] in (None, "1")


def test_base_and_version_can_be_asked_for(stack) -> None:
    assert stack.ghostwriter("write", "Hybrid search", "--model", "base")["model"]["version"] is None
    assert stack.ghostwriter("write", "Hybrid search", "--model", "1")["model"]["version"] == "1"
    refused = stack.ghostwriter("write", "Hybrid search", "--model", "77", check=False)
    assert refused.returncode == 1
    assert "77" in refused.stderr


def test_models_list_and_show(stack) -> None:
    (model,) = stack.ghostwriter("models", "list")
    assert set(model) == {"version", "aliases", "training_set", "scores", "created"}
    assert stack.ghostwriter("models", "show", "1")["job_id"] == stack.list_jobs()[0]["id"]


def test_a_second_training_without_a_change_makes_no_second_job(stack, training) -> None:
    fine_tunes = training.known(contracts.FINE_TUNE_DAG)
    answer = stack.ghostwriter("train", "start", "--wait", timeout=600)
    assert {run["state"] for run in answer["runs"]} == {"success"}
    assert len(stack.list_jobs()) == 1
    assert [model["version"] for model in stack.ghostwriter("models", "list")] == ["1"]
    assert training.known(contracts.FINE_TUNE_DAG) == fine_tunes


def test_a_knowledge_change_alone_makes_no_second_job(stack, training) -> None:
    known = training.known(contracts.PREPARE_DAG)
    path = stack.content_dir / "knowledge" / "guides" / "asset-aware-scheduling.md"
    path.write_text(path.read_text() + "\n\nOne more remark on assets and schedules.\n")
    stack.ghostwriter("knowledge", "sync")
    assert training.wait_for_new_run(contracts.PREPARE_DAG, known, timeout=240)["state"] == "success"
    assert len(stack.list_jobs()) == 1
