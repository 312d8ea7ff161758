"""How commands speak: JSON or tables on stdout, progress and one-line errors on stderr.

It knows no command and no component.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.table import Column, Table

_UNLIMITED = 10_000  # columns
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class CommandError(Exception):
    """A command could not do what was asked; the message is one line that says what to do."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Progress(Protocol):
    """Where a wait says how far it is."""

    def __call__(self, text: str, /) -> None: ...


def print_json(value: Any) -> None:
    """The answer, for a program."""
    sys.stdout.write(json.dumps(value, indent=2, default=str, ensure_ascii=False) + "\n")


def print_error(message: str, *, as_json: bool) -> None:
    """One clear line on stderr; with `--json` an object with the key `error`."""
    line = " ".join(message.split())
    sys.stderr.write(
        json.dumps({"error": line}, ensure_ascii=False) + "\n" if as_json else f"error: {line}\n"
    )


def stdout_console(width: int | None = None) -> Console:
    """Built at use: tests and pipes replace stdout."""
    return Console(file=sys.stdout, highlight=False, emoji=False, width=width)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, wide: bool = False
) -> None:
    """A table; None shows as a dash, and what is too long for its column goes on below.

    A `wide` one keeps each row on a line, whatever the terminal's width: addresses and ids stay whole for a copy.
    """
    headers = [Column(name, overflow="fold") for name in columns]
    table = Table(*headers, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("–" if cell is None or cell == "" else str(cell) for cell in row))
    console = stdout_console()
    if wide:
        needed = stdout_console(_UNLIMITED).measure(table).maximum
        console = stdout_console(max(console.width, needed))
    console.print(table)


@contextmanager
def show_progress(first: str, *, quiet: bool = False) -> Iterator[Progress]:
    """A live line on a terminal, a plain line for each news elsewhere; on stderr, and nothing when `quiet`.

    `--json` is quiet: all that is on stderr then is an error, as JSON.
    """
    if quiet:
        yield lambda _text, /: None
        return
    console = Console(file=sys.stderr, highlight=False)
    if console.is_terminal:
        with console.status(first) as status:
            yield status.update
        return
    last = ""

    def say(text: str) -> None:
        nonlocal last
        if text != last:
            console.print(text, markup=False, soft_wrap=True)
            last = text

    say(first)
    yield say
