"""MLflow behind the registry port: external models whose weights stay with the LLM server.

It knows nothing of training or judging; those log their runs themselves.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from shared import contracts
from shared.first_use import built_once
from shared.registry.port import ModelRegistry, ModelVersion, RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

SCORE_TAG_PREFIX = "ghostwriter.score."
_MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
_PRESENT = "RESOURCE_ALREADY_EXISTS"


class MlflowRegistry(ModelRegistry):
    """`url` is the tracking server's, or any tracking URI; a request gives up after `timeout` seconds."""

    def __init__(self, url: str, *, timeout: int = 20, max_retries: int = 3) -> None:
        self._url, self._timeout, self._max_retries = url, timeout, max_retries

    @built_once
    def client(self) -> "MlflowClient":
        """The vendor's client; its import takes a second or two, so it waits for the first call."""
        from mlflow import MlflowClient, set_tracking_uri
        from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

        # MLflow takes these from its own variables only; its defaults block a caller for minutes.
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(self._timeout)
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(self._max_retries)
        # Registering an external model looks the model up through the global URI, whatever the client's is.
        set_tracking_uri(self._url)
        return MlflowClient(tracking_uri=self._url, registry_uri=self._url)

    def register(self, *, model_id: str, run_id: str, training_set: str, job_id: str) -> ModelVersion:
        for known in self.list_versions():
            if known.job_id == job_id:
                return known
        tags = {
            contracts.MODEL_ID_TAG: model_id,
            contracts.TRAINING_SET_TAG: training_set,
            contracts.JOB_ID_TAG: job_id,
        }
        with self._explained():
            self._create_registered_model()
            logged = self._create_external_model(run_id, model_id, tags)
            created = self.client.create_model_version(
                contracts.REGISTERED_MODEL,
                source=f"models:/{logged}",
                run_id=run_id,
                model_id=logged,
                tags=tags,
                description=f"Served by the LLM server as `{model_id}`.",
            )
        return _read_version(created, {})

    def get_by_alias(self, alias: str) -> ModelVersion | None:
        version = self._aliases().get(alias)
        return self.get_version(version) if version else None

    def get_version(self, version: str) -> ModelVersion | None:
        found = self._find_version(version)
        return _read_version(found, self._aliases()) if found else None

    def set_alias(self, alias: str, version: str) -> None:
        self._require(version)
        with self._explained():
            self.client.set_registered_model_alias(contracts.REGISTERED_MODEL, alias, version)

    def delete_alias(self, alias: str) -> None:
        if alias in self._aliases():
            with self._explained():
                self.client.delete_registered_model_alias(contracts.REGISTERED_MODEL, alias)

    def set_scores(self, version: str, scores: Mapping[str, float]) -> None:
        self._require(version)
        with self._explained():
            for name, value in scores.items():
                key = SCORE_TAG_PREFIX + name
                self.client.set_model_version_tag(
                    contracts.REGISTERED_MODEL, version, key, repr(float(value))
                )

    def list_versions(self) -> list[ModelVersion]:
        with self._explained():
            found = list(self.client.search_model_versions(f"name = '{contracts.REGISTERED_MODEL}'"))
        aliases = self._aliases() if found else {}
        versions = [_read_version(version, aliases) for version in found]
        return sorted(versions, key=lambda version: -int(version.version))

    def _aliases(self) -> dict[str, str]:
        from mlflow.exceptions import MlflowException

        with self._explained():
            try:
                model = self.client.get_registered_model(contracts.REGISTERED_MODEL)
            except MlflowException as error:
                if error.error_code in _MISSING:
                    return {}
                raise
        return {alias: str(version) for alias, version in dict(model.aliases).items()}

    def _find_version(self, version: str) -> "MlflowVersion | None":
        from mlflow.exceptions import MlflowException

        if not version.isdecimal():
            return None
        with self._explained():
            try:
                return self.client.get_model_version(contracts.REGISTERED_MODEL, version)
            except MlflowException as error:
                if error.error_code in _MISSING:
                    return None
                raise

    def _require(self, version: str) -> None:
        if self._find_version(version) is None:
            raise RegistryError(
                f"Version {version!r} is not registered; `ghostwriter models list` shows which are."
            )

    def _create_registered_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(contracts.REGISTERED_MODEL)
        except MlflowException as error:
            if error.error_code != _PRESENT:
                raise

    def _create_external_model(self, run_id: str, model_id: str, tags: dict[str, str]) -> str:
        from mlflow import create_external_model

        logged = create_external_model(
            name=contracts.REGISTERED_MODEL,
            source_run_id=run_id,
            tags=tags,
            params={"model_id": model_id},
            experiment_id=self.client.get_run(run_id).info.experiment_id,
        )
        return str(logged.model_id)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            raise RegistryError(
                f"MLflow at {self._url} failed: {str(error)[:300]}. Is it running?"
            ) from error


def _read_version(found: "MlflowVersion", aliases: Mapping[str, str]) -> ModelVersion:
    tags = dict(found.tags)
    scores = {
        key.removeprefix(SCORE_TAG_PREFIX): float(value)
        for key, value in tags.items()
        if key.startswith(SCORE_TAG_PREFIX)
    }
    return ModelVersion(
        version=str(found.version),
        model_id=tags.get(contracts.MODEL_ID_TAG, ""),
        run_id=found.run_id or "",
        training_set=tags.get(contracts.TRAINING_SET_TAG, ""),
        job_id=tags.get(contracts.JOB_ID_TAG, ""),
        created=datetime.fromtimestamp((found.creation_timestamp or 0) / 1000, UTC),
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == str(found.version))),
        scores=scores,
    )
