"""A model registry for tests: in memory, honest about its contract.

It knows no server.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from shared.registry.port import ModelRegistry, ModelVersion, RegistryError


class FakeRegistry(ModelRegistry):
    """Versions count up from 1, as MLflow's do."""

    def __init__(self) -> None:
        self._versions: dict[str, ModelVersion] = {}
        self._aliases: dict[str, str] = {}

    def register(self, *, model_id: str, run_id: str, training_set: str, job_id: str) -> ModelVersion:
        for version in self._versions.values():
            if version.job_id == job_id:
                return self._with_aliases(version)
        number = str(len(self._versions) + 1)
        self._versions[number] = ModelVersion(
            number, model_id, run_id, training_set, job_id, datetime.now(UTC)
        )
        return self._versions[number]

    def get_by_alias(self, alias: str) -> ModelVersion | None:
        version = self._aliases.get(alias)
        return self.get_version(version) if version else None

    def get_version(self, version: str) -> ModelVersion | None:
        found = self._versions.get(version)
        return self._with_aliases(found) if found else None

    def set_alias(self, alias: str, version: str) -> None:
        self._require(version)
        self._aliases[alias] = version

    def delete_alias(self, alias: str) -> None:
        self._aliases.pop(alias, None)

    def set_scores(self, version: str, scores: Mapping[str, float]) -> None:
        known = self._require(version)
        self._versions[version] = replace(known, scores={**known.scores, **scores})

    def list_versions(self) -> list[ModelVersion]:
        return [self._with_aliases(version) for version in reversed(self._versions.values())]

    def _require(self, version: str) -> ModelVersion:
        if version not in self._versions:
            raise RegistryError(
                f"Version {version!r} is not registered; `ghostwriter models list` shows which are."
            )
        return self._versions[version]

    def _with_aliases(self, version: ModelVersion) -> ModelVersion:
        aliases = tuple(sorted(alias for alias, target in self._aliases.items() if target == version.version))
        return replace(version, aliases=aliases)
