"""What the training deployment asks of an experiment tracker.

It knows no vendor and no registry of models.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from deployments.training.results import Point


class TrackingError(RuntimeError):
    """The tracker refused or can't be reached; the message says what to do."""


class Tracker(ABC):
    """Runs of `contracts.TRAINING_EXPERIMENT`. All raise TrackingError; logging the same again changes nothing."""

    @abstractmethod
    def open_run(self, name: str, key: str, tags: Mapping[str, str]) -> str:
        """Id of the run that stands for `key`, created where there is none: a retry goes on in the same run."""

    @abstractmethod
    def describe_run(self, run_id: str) -> str:
        """Address of the run's page."""

    @abstractmethod
    def log_params(self, run_id: str, params: Mapping[str, str | int | float]) -> None:
        """Settings of the run."""

    @abstractmethod
    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Metrics over steps."""

    @abstractmethod
    def log_dataset(
        self, run_id: str, name: str, digest: str, location: str, counts: Mapping[str, Any]
    ) -> None:
        """The data that the run stands on."""

    @abstractmethod
    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        """An artifact; `path` is its name within the run."""

    @abstractmethod
    def log_table(self, run_id: str, path: str, columns: Mapping[str, Sequence[Any]]) -> None:
        """An artifact that the tracker shows as a table."""

    @abstractmethod
    def close_run(self, run_id: str, *, failed: bool = False) -> None:
        """The run has ended."""
