"""The numbers of a training by step, as the table that the job's result file is, and what follows from them.

It knows no model and no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

_DIGITS: Final = 5


@dataclass(frozen=True)
class Row:
    """One step; the validation numbers come with the last step of an epoch. Rounded, as the table has them."""

    step: int
    train_loss: float
    train_accuracy: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None

    def validated(self, loss: float, accuracy: float) -> "Row":
        """The row with validation numbers."""
        return round_row(replace(self, valid_loss=loss, valid_mean_token_accuracy=accuracy))

    @property
    def numbers(self) -> dict[str, float]:
        """Those that are known, by column."""
        return {name: value for name in COLUMNS if (value := getattr(self, name)) is not None}

    @property
    def checkpoint_metrics(self) -> dict[str, float]:
        """Those that are known, by the names that OpenAI gives them in a checkpoint."""
        renamed = {"train_accuracy": "train_mean_token_accuracy"}
        return {renamed.get(name, name): value for name, value in self.numbers.items() if name != "step"}


COLUMNS = tuple(field.name for field in fields(Row))


def round_row(row: Row) -> Row:
    """The row with its numbers rounded."""
    rounded: dict[str, Any] = {
        name: round(value, _DIGITS) for name, value in row.numbers.items() if name != "step"
    }
    return replace(row, **rounded)


def format_table(rows: Sequence[Row]) -> bytes:
    """The rows as CSV with a header."""
    lines = [",".join(COLUMNS)]
    for row in rows:
        cells = (
            "" if (value := getattr(row, name)) is None else f"{value:.{_DIGITS}f}" for name in COLUMNS[1:]
        )
        lines.append(",".join([str(row.step), *cells]))
    return ("\n".join(lines) + "\n").encode()


def parse_table(table: bytes) -> list[Row]:
    """The rows of a table that `format_table` wrote. Raises ValueError."""
    rows = []
    for line in table.decode().splitlines()[1:]:
        step, *cells = line.split(",")
        numbers: list[Any] = [float(cell) if cell else None for cell in cells]
        rows.append(Row(int(step), *numbers))
    return rows


def choose_best(rows: Sequence[Row]) -> Row | None:
    """The row of the epoch with the lowest validation loss, the earlier of equals; None where none was validated."""
    validated = [row for row in rows if row.valid_loss is not None]
    return min(validated, key=lambda row: row.valid_loss or 0.0, default=None)


def stops_early(rows: Sequence[Row], patience: int) -> bool:
    """Whether so many epochs in a row have had no better validation loss than one before them; 0: never."""
    best = choose_best(rows)
    if not patience or best is None:
        return False
    return sum(row.valid_loss is not None and row.step > best.step for row in rows) >= patience
