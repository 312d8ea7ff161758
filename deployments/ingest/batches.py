"""Where a run's batches lie between its steps: one JSONL file per batch and step, so that XCom carries no text.

It knows no step's meaning.
"""

import hashlib
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.json_lines import format_row, read_rows

KEEP_SECONDS = 7 * 24 * 3600
_READABLE = 80  # characters of a run id that its folder shows


class RunFolder:
    """`<state>/ingest/runs/<name>/`: a name of its own for each run id, whatever the id is made of."""

    def __init__(self, state_dir: Path, run_id: str) -> None:
        # The digest tells runs apart whose ids look alike; a person who triggers a run may choose any id, even "..".
        readable = re.sub(r"[^A-Za-z0-9_+-]", "_", run_id)[:_READABLE]
        digest = hashlib.sha256(run_id.encode()).hexdigest()[:32]
        self.path = state_dir.absolute() / "ingest" / "runs" / f"{readable}-{digest}"

    def empty(self) -> None:
        """Remove what an earlier try of this run left."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, rows: Iterable[Any]) -> int:
        """Write a file whole or not at all, row by row; how many."""
        self.path.mkdir(parents=True, exist_ok=True)
        beside = self.path / f".{name}.new"
        count = 0
        with beside.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(f"{format_row(row)}\n")
                count += 1
        beside.replace(self.path / f"{name}.jsonl")
        return count

    def read(self, name: str) -> Iterator[Any]:
        """The rows of one file, one by one. Raises FileNotFoundError, which says what to do."""
        path = self.path / f"{name}.jsonl"
        if not path.is_file():
            raise FileNotFoundError(
                f"This run's file {name} is gone: the run has ended, or was planned anew. Clear its task `plan` with "
                "everything after it, or start a new run."
            )
        return read_rows(path)

    def list_names(self, prefix: str) -> list[str]:
        """Names of the files that begin so."""
        return sorted(path.stem for path in self.path.glob(f"{prefix}*.jsonl"))

    def keep_only(self, name: str) -> None:
        """Remove this run's other files, and the folders of runs long gone."""
        for path in self.path.iterdir():
            if path.name != f"{name}.jsonl":
                path.unlink(missing_ok=True)
        for other in self.path.parent.iterdir():
            with suppress(FileNotFoundError):  # another run may tidy up at the same time
                if time.time() - other.stat().st_mtime > KEEP_SECONDS:
                    shutil.rmtree(other, ignore_errors=True)
