"""Where a run's batches lie between its steps: one JSONL file per batch and step, so that XCom carries no text.

It knows no step's meaning.
"""

import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

KEEP_SECONDS = 7 * 24 * 3600


class RunFolder:
    """`<state>/ingest/runs/<run id>/`."""

    def __init__(self, state_dir: Path, run_id: str) -> None:
        safe = "".join(
            character if character.isalnum() or character in "-_.+" else "_" for character in run_id
        )
        self.path = state_dir.absolute() / "ingest" / "runs" / safe

    def write(self, name: str, rows: Iterable[Any]) -> int:
        """Write all rows at once; how many."""
        self.path.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        beside = self.path / f".{name}.new"
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        beside.replace(self.path / f"{name}.jsonl")
        return len(lines)

    def read(self, name: str) -> list[Any]:
        """The rows of one file. Raises FileNotFoundError."""
        return [
            json.loads(line)
            for line in (self.path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        ]

    def list_names(self, prefix: str) -> list[str]:
        """Names of the files that begin so."""
        return sorted(path.stem for path in self.path.glob(f"{prefix}*.jsonl"))

    def remove(self) -> None:
        """Remove this run's files, and those of runs long gone."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.parent.is_dir():
            for other in self.path.parent.iterdir():
                if time.time() - other.stat().st_mtime > KEEP_SECONDS:
                    shutil.rmtree(other, ignore_errors=True)
