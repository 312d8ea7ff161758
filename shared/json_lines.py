"""JSON lines: one value a line, in UTF-8. A line ends at "\\n" and nowhere else.

It knows nothing of what the lines say. `str.splitlines` also cuts at U+0085, U+2028 and U+2029, which JSON allows in a
string: our own readers don't cut there, and our writers escape the three for whoever reads a file with other tools.
"""

import json
from collections.abc import Callable
from typing import Any

_SEPARATORS = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def format_row(row: Any, *, default: Callable[[Any], Any] | None = None) -> str:
    """A value as one line without its end; `default` is json's, for what JSON doesn't know."""
    line = json.dumps(row, ensure_ascii=False, default=default)
    for separator, escape in _SEPARATORS.items():
        line = line.replace(separator, escape)
    return line


def split_lines(text: str) -> list[str]:
    """The lines of a text that aren't blank."""
    return [line for line in text.split("\n") if line.strip()]
