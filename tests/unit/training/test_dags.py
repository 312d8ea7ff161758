"""The Dags: all are read without an error, and branch to the ends that are promised."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException

import deployments.training
from shared import contracts
from shared.settings import Settings


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    folder = Path(deployments.training.__file__).parent / "dags"
    bag = DagBag(str(folder))
    assert bag.import_errors == {}
    return dict(bag.dags)


def test_the_list_of_dags_is_fixed(dags: dict[str, Any]) -> None:
    assert set(dags) == set(contracts.TRAINING_DAGS)


@pytest.mark.parametrize("dag_id", contracts.TRAINING_DAGS)
def test_every_dag_explains_itself_and_retries(dags: dict[str, Any], dag_id: str) -> None:
    dag = dags[dag_id]
    assert dag.doc_md
    assert not dag.dag_display_name[0].isascii()
    assert dag.max_active_runs == 1
    assert dag.max_consecutive_failed_dag_runs > 0
    assert "ghostwriter" in dag.tags
    assert all(task.retries >= 1 and task.retry_exponential_backoff for task in dag.tasks)


@pytest.mark.parametrize(
    ("dag_id", "branch", "ends"),
    [
        (contracts.PREPARE_DAG, "prepare", {"hand_over", "nothing_due", "no_knowledge_base"}),
        (
            contracts.FINE_TUNE_DAG,
            "check_examples_and_cost",
            {
                "no_training_examples",
                "no_validation_examples",
                "no_holdout_examples",
                "bad_format",
                "over_budget",
                "fine_tune",
            },
        ),
        (contracts.PROMOTE_DAG, "choose_comparison", {"no_challenger", "no_champion", "compare"}),
        (contracts.PROMOTE_DAG, "compare", {"promoted", "kept"}),
        (contracts.PROMOTE_DAG, "no_champion", {"promoted", "kept"}),
    ],
)
def test_a_branch_has_these_ends(dags: dict[str, Any], dag_id: str, branch: str, ends: set[str]) -> None:
    assert dags[dag_id].get_task(branch).downstream_task_ids == ends


def test_assets_chain_the_dags(dags: dict[str, Any]) -> None:
    def outlets(dag_id: str, task_id: str) -> set[str]:
        return {asset.name for asset in dags[dag_id].get_task(task_id).outlets}

    def scheduled_on(dag_id: str) -> set[str]:
        return {asset.name for asset in dags[dag_id].timetable.asset_condition.objects}

    assert scheduled_on(contracts.PREPARE_DAG) == {contracts.KNOWLEDGE_BASE_ASSET, contracts.EXAMPLES_ASSET}
    assert scheduled_on(contracts.FINE_TUNE_DAG) <= outlets(contracts.PREPARE_DAG, "hand_over")
    assert scheduled_on(contracts.PROMOTE_DAG) <= outlets(contracts.FINE_TUNE_DAG, "fine_tune")
    assert contracts.CHAMPION_ASSET in outlets(contracts.PROMOTE_DAG, "promoted")
    assert contracts.EXAMPLES_ASSET in outlets(contracts.START_TRAINING_DAG, "start")
    assert contracts.TRAINING_SET_ASSET not in outlets(contracts.PREPARE_DAG, "prepare")


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        (contracts.PREPARE_DAG, "prepare"),
        (contracts.PROMOTE_DAG, "compare"),
        (contracts.PROMOTE_DAG, "no_champion"),
    ],
)
def test_a_mistake_in_the_voice_is_not_tried_again(
    dags: dict[str, Any], dag_id: str, task_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "voice.toml").write_text("[voice]\nopener = 1\n")
    settings = Settings(content_dir=tmp_path, state_dir=tmp_path)
    monkeypatch.setattr("shared.settings.get_settings", lambda: settings)
    with pytest.raises(AirflowFailException, match=r"voice\.toml: .*\[voice\] opener"):
        dags[dag_id].get_task(task_id).python_callable(run_id="manual__1")
