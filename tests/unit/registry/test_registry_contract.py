"""The registry's contract, on the fake and on MLflow over SQLite."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import contracts
from shared.registry.fake import FakeRegistry
from shared.registry.mlflow import MlflowRegistry
from shared.registry.port import ModelRegistry, ModelVersion, RegistryError

Register = Callable[[str], ModelVersion]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file; migrating takes seconds, so it is done once and copied."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowRegistry(f"sqlite:///{path}").list_versions()
    return path


@pytest.fixture(params=["fake", "mlflow"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> ModelRegistry:
    if request.param == "fake":
        return FakeRegistry()
    pytest.importorskip("sqlalchemy")
    database = tmp_path / "mlflow.db"
    database.write_bytes(request.getfixturevalue("empty_database").read_bytes())
    return MlflowRegistry(f"sqlite:///{database}")


@pytest.fixture
def register(registry: ModelRegistry, tmp_path: Path) -> Register:
    def create_run() -> str:
        if isinstance(registry, MlflowRegistry):
            client = registry.client
            experiment = client.get_experiment_by_name("t")
            location = (tmp_path / "artifacts").as_uri()
            name = experiment.experiment_id if experiment else client.create_experiment("t", location)
            return str(client.create_run(name).info.run_id)
        return "run"

    def do(job: str) -> ModelVersion:
        return registry.register(model_id=f"ft:{job}", run_id=create_run(), training_set="set", job_id=job)

    return do


def test_an_empty_registry(registry: ModelRegistry) -> None:
    assert registry.list_versions() == []
    assert registry.get_by_alias(contracts.CHAMPION_ALIAS) is None
    assert registry.get_version("1") is None
    registry.delete_alias(contracts.CHAMPION_ALIAS)


def test_a_job_is_registered_once(registry: ModelRegistry, register: Register) -> None:
    first, again, second = register("job-1"), register("job-1"), register("job-2")
    assert (first.version, again.version, second.version) == ("1", "1", "2")
    assert [version.version for version in registry.list_versions()] == ["2", "1"]
    known = registry.get_version("1")
    assert known is not None
    assert (known.model_id, known.training_set, known.job_id) == ("ft:job-1", "set", "job-1")
    assert known.run_id == first.run_id
    assert known.created.year >= 2024


def test_aliases_move_and_go(registry: ModelRegistry, register: Register) -> None:
    register("job-1"), register("job-2")
    registry.set_alias(contracts.CHAMPION_ALIAS, "1")
    registry.set_alias(contracts.CHALLENGER_ALIAS, "2")
    registry.set_alias(contracts.CHAMPION_ALIAS, "2")
    champion = registry.get_by_alias(contracts.CHAMPION_ALIAS)
    assert champion is not None
    assert champion.version == "2"
    assert champion.aliases == (contracts.CHALLENGER_ALIAS, contracts.CHAMPION_ALIAS)
    registry.delete_alias(contracts.CHALLENGER_ALIAS)
    assert registry.get_by_alias(contracts.CHALLENGER_ALIAS) is None
    assert [version.aliases for version in registry.list_versions()] == [(contracts.CHAMPION_ALIAS,), ()]


def test_an_alias_moves_only_from_where_it_was_expected(registry: ModelRegistry, register: Register) -> None:
    def read() -> str | None:
        found = registry.get_by_alias(contracts.CHAMPION_ALIAS)
        return found.version if found else None

    register("job-1"), register("job-2")
    assert not registry.move_alias(contracts.CHAMPION_ALIAS, "2", expected="1")
    assert read() is None
    assert registry.move_alias(contracts.CHAMPION_ALIAS, "1", expected=None)
    assert not registry.move_alias(contracts.CHAMPION_ALIAS, "2", expected=None)
    assert not registry.move_alias(contracts.CHAMPION_ALIAS, None, expected="2")
    assert read() == "1"
    assert registry.move_alias(contracts.CHAMPION_ALIAS, "2", expected="1")
    assert read() == "2"
    assert registry.move_alias(contracts.CHAMPION_ALIAS, None, expected="2")
    assert read() is None


def test_scores_stay_with_the_version(registry: ModelRegistry, register: Register) -> None:
    register("job-1")
    registry.set_scores("1", {"score": 0.1, "broken": math.nan})
    registry.set_scores("1", {"score": 0.25})
    (version,) = registry.list_versions()
    assert version.scores["score"] == 0.25
    assert math.isnan(version.scores["broken"])


def test_an_unknown_version_is_refused(registry: ModelRegistry) -> None:
    with pytest.raises(RegistryError, match="not registered"):
        registry.set_alias(contracts.CHAMPION_ALIAS, "7")
    with pytest.raises(RegistryError, match="not registered"):
        registry.set_scores("7", {"score": 1.0})
