"""Rows of cells as a Markdown table, bounded.

It knows no format.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

MAX_ROWS: Final = 50_000  # of one document
MAX_COLUMNS: Final = 200


def render_table(rows: Iterable[Sequence[str]]) -> str:
    """The table; its first row with a cell names the columns. "" for one without a cell that holds something."""
    kept = [cells for row in rows if any(cells := [_clean(cell) for cell in islice(row, MAX_COLUMNS)])]
    width = max((index + 1 for cells in kept for index, cell in enumerate(cells) if cell), default=0)
    if not kept:
        return ""
    lines = [f"| {' | '.join([*cells[:width], *[''] * (width - len(cells))])} |" for cells in kept]
    return "\n".join([lines[0], "|" + "---|" * width, *lines[1:]])


def _clean(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").split())
