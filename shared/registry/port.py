"""What Ghostwriter asks of a model registry about its one registered model.

It knows no vendor, and nothing of how a model is trained or judged.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class ModelVersion:
    """A version of the registered model that lives behind the LLM server under `model_id`."""

    version: str
    model_id: str
    run_id: str
    training_set: str  # digest
    job_id: str
    created: datetime
    aliases: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


class RegistryError(RuntimeError):
    """The registry refused or can't be reached; the message says what to do."""


class ModelRegistry(ABC):
    """Versions and aliases of `contracts.REGISTERED_MODEL`. All raise RegistryError."""

    @abstractmethod
    def register(self, *, model_id: str, run_id: str, training_set: str, job_id: str) -> ModelVersion:
        """A new version; the one that already stands for `job_id` where there is one."""

    @abstractmethod
    def get_by_alias(self, alias: str) -> ModelVersion | None:
        """The version behind an alias, or None."""

    @abstractmethod
    def get_version(self, version: str) -> ModelVersion | None:
        """One version, or None."""

    @abstractmethod
    def set_alias(self, alias: str, version: str) -> None:
        """Point an alias at a version."""

    @abstractmethod
    def delete_alias(self, alias: str) -> None:
        """Remove an alias; fine where there is none."""

    def move_alias(self, alias: str, version: str | None, *, expected: str | None) -> bool:
        """Point an alias at a version (None: remove it) if it still points at `expected` (None: nowhere); whether so.

        MLflow has no such request: a move by somebody else between this one's read and write, some milliseconds, is
        overwritten.
        """
        found = self.get_by_alias(alias)
        if (found.version if found else None) != expected:
            return False
        self.delete_alias(alias) if version is None else self.set_alias(alias, version)
        return True

    @abstractmethod
    def set_scores(self, version: str, scores: Mapping[str, float]) -> None:
        """Keep the evaluation's numbers with the version."""

    @abstractmethod
    def list_versions(self) -> list[ModelVersion]:
        """All versions, newest first; empty where nothing is registered."""
