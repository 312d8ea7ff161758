"""Reads files of JSON lines, as other people's readers do: a line ends at "\\n" and nowhere else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_rows(path: Path) -> Iterator[Any]:
    """The values of a file, one by one: memory holds one line. Raises FileNotFoundError and ValueError."""
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)
