"""An experiment tracker for tests: in memory, honest about its contract.

It knows no server.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.training.results import Point
from deployments.training.tracking.port import Tracker, TrackingError


class FakeTracker(Tracker):
    """What was logged lies in `runs[run_id]`."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}

    def open_run(self, name: str, key: str, tags: Mapping[str, str]) -> str:
        for run_id, run in self.runs.items():
            if run["key"] == key:
                return run_id
        run_id = f"run-{len(self.runs) + 1}"
        self.runs[run_id] = {
            "name": name,
            "key": key,
            "tags": dict(tags),
            "params": {},
            "points": set(),
            "files": {},
        }
        self.runs[run_id].update(tables={}, datasets={}, status="RUNNING")
        return run_id

    def describe_run(self, run_id: str) -> str:
        return f"fake://runs/{run_id}"

    def log_params(self, run_id: str, params: Mapping[str, str | int | float]) -> None:
        known = self.runs[run_id]["params"]
        changed = [key for key, value in params.items() if known.get(key, str(value)) != str(value)]
        if changed:
            raise TrackingError(f"{changed[0]} is already logged with another value")
        known.update({key: str(value) for key, value in params.items()})

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        self.runs[run_id]["points"].update(points)

    def log_dataset(
        self, run_id: str, name: str, digest: str, location: str, counts: Mapping[str, Any]
    ) -> None:
        self.runs[run_id]["datasets"][name] = digest

    def log_file(self, run_id: str, path: str, content: bytes) -> None:
        self.runs[run_id]["files"][path] = content

    def log_table(self, run_id: str, path: str, columns: Mapping[str, Sequence[Any]]) -> None:
        self.runs[run_id]["tables"][path] = {name: list(values) for name, values in columns.items()}

    def close_run(self, run_id: str, *, failed: bool = False) -> None:
        self.runs[run_id]["status"] = "FAILED" if failed else "FINISHED"
