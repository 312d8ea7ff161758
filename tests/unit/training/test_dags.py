"""The Dags: all are read without an error, and branch to the ends that are promised."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("airflow")

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

import deployments.training
from deployments.training import notify
from shared import contracts
from shared.airflow import AirflowApi
from shared.llm.fake import FakeLlm
from shared.registry.fake import FakeRegistry
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


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """Version 1 is the champion, version 2 the challenger; the provider knows both."""
    registry = FakeRegistry()
    for number, alias in (("1", contracts.CHAMPION_ALIAS), ("2", contracts.CHALLENGER_ALIAS)):
        registry.register(model_id=f"ft:{number}", run_id="r", training_set="set", job_id=f"job-{number}")
        registry.set_alias(alias, number)
    llm = FakeLlm({"ft:1": "", "ft:2": ""})
    monkeypatch.setattr("deployments.training.composition.create_registry", lambda _: registry)
    monkeypatch.setattr("deployments.training.composition.create_llm", lambda _: llm)
    return registry


class HandedOver:
    """A task instance that finds these judgements of the two branches."""

    def __init__(self, *judgements: dict[str, str | None] | None) -> None:
        self.judgements = judgements

    def xcom_pull(self, *, task_ids: list[str], key: str) -> list[dict[str, str | None] | None]:
        assert (len(task_ids), key) == (2, "judgement")
        return list(self.judgements)


def test_a_cleared_crown_moves_nothing_once_things_have_changed(
    dags: dict[str, Any], registry: FakeRegistry
) -> None:
    crown = dags[contracts.PROMOTE_DAG].get_task("promoted").python_callable
    handed_over = HandedOver({"challenger": "9", "champion": None}, {"challenger": "2", "champion": "1"})
    for _ in range(2):
        crown(ti=handed_over)
        assert registry.list_versions()[0].aliases == (contracts.CHAMPION_ALIAS,)
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")  # a person rolls back
    with pytest.raises(AirflowSkipException, match="the challenger is nobody now"):
        crown(ti=handed_over)
    assert registry.list_versions()[0].aliases == ()


@pytest.mark.parametrize("task_id", ["compare", "no_champion"])
def test_a_cleared_comparison_is_skipped_when_there_is_nobody_to_compare(
    dags: dict[str, Any],
    registry: FakeRegistry,
    task_id: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry.delete_alias(contracts.CHALLENGER_ALIAS)
    settings = Settings(content_dir=Path(__file__).parents[3] / "content", state_dir=tmp_path)
    monkeypatch.setattr("shared.settings.get_settings", lambda: settings)
    with pytest.raises(AirflowSkipException):
        dags[contracts.PROMOTE_DAG].get_task(task_id).python_callable(run_id="manual__1")


@pytest.mark.parametrize(
    ("lost", "branch"), [((), "compare"), (("ft:1",), "no_champion"), (("ft:2",), "no_challenger")]
)
def test_the_branch_follows_aliases_and_provider(
    dags: dict[str, Any],
    registry: FakeRegistry,
    lost: tuple[str, ...],
    branch: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = FakeLlm({model: "" for model in ("ft:1", "ft:2") if model not in lost})
    monkeypatch.setattr("deployments.training.composition.create_llm", lambda _: llm)
    assert dags[contracts.PROMOTE_DAG].get_task("choose_comparison").python_callable() == branch


@pytest.mark.parametrize("task_id", ["nothing_due", "no_knowledge_base"])
def test_an_end_without_work_says_why(
    dags: dict[str, Any], task_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    left = {("prepare", "reason"): "Job ftjob-1 has failed: out of memory"}
    task = SimpleNamespace(xcom_pull=lambda task_ids, key: left[task_ids, key])
    dags[contracts.PREPARE_DAG].get_task(task_id).python_callable(ti=task)
    assert "Job ftjob-1 has failed: out of memory" in capsys.readouterr().out


def test_news_of_the_examples_promises_no_second_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script may send them every hour; a job that failed is a person's to try again."""
    posted: list[str] = []
    monkeypatch.setattr(AirflowApi, "post_asset_event", lambda _self, uri, _extra: posted.append(uri))
    monkeypatch.setattr("sys.argv", ["notify", "key"])
    notify.main()
    assert posted == [contracts.EXAMPLES_ASSET]
    assert "`ghostwriter train start`" in capsys.readouterr().out
