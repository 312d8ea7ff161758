"""Temporary tables of a transaction, filled from the hand-over: sets are compared in the ledger, not in memory.

It knows no rule.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
from sqlalchemy import text
from sqlalchemy.orm import Session

AT_ONCE = 2_000  # rows that are held at once


def create_table(session: Session, name: str, columns: str) -> None:
    """A table that ends with the transaction."""
    session.execute(text(f"DROP TABLE IF EXISTS pg_temp.{name}"))
    session.execute(text(f"CREATE TEMPORARY TABLE {name} ({columns}) ON COMMIT DROP"))


def fill_table(session: Session, name: str, tables: Iterable[pa.Table]) -> int:
    """Copy rows into it, columns by name; how many."""
    count = 0
    with closing(session.connection().connection.cursor()) as cursor:
        copy: Any = cursor
        for table in tables:
            buffer = io.BytesIO()
            # An empty text is quoted, a null is nothing: so Postgres tells them apart.
            pa_csv.write_csv(table, buffer, pa_csv.WriteOptions(include_header=False))
            buffer.seek(0)
            columns = ", ".join(f'"{column}"' for column in table.column_names)
            copy.copy_expert(f'COPY {name} ({columns}) FROM STDIN WITH (FORMAT csv, ENCODING "UTF8")', buffer)
            count += table.num_rows
    return count


def analyze(session: Session, name: str) -> None:
    """Tell the planner how large it is."""
    session.execute(text(f"ANALYZE {name}"))


def stream(session: Session, query: str, **values: Any) -> Iterator[Any]:
    """The rows of a query, AT_ONCE of them in memory."""
    options = {"stream_results": True, "yield_per": AT_ONCE}
    yield from session.execute(text(query), values, execution_options=options)


def group(items: Iterable[Any], size: int = AT_ONCE) -> Iterator[Sequence[Any]]:
    """Lists of at most `size`."""
    held: list[Any] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
