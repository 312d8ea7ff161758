"""What a database says of an error, without the values that it says it with: titles, texts, whole rows.

It knows no table and opens no connection.
"""

import re
from typing import Final

# Where SQLAlchemy's message ends; in a trace another exception may follow. Backslash and n: somebody's repr().
_END: Final = (
    r"(?=(?:\s|\\n|\|){0,20}\(Background on this error|\s{0,20}(?:The above exception|During handling)|\Z)"
)
# SQLAlchemy's statement and parameters; what Postgres adds below its message, the line of the statement included.
_BELOW: Final = re.compile(
    r"(?:\[(?:SQL|parameters): |(?:\A|\n|\\n)[\s|]{0,20}(?:DETAIL:  |LINE \d+: |QUERY:  |CONTEXT:  )).*?"
    + _END,
    re.DOTALL,
)
_QUOTED: Final = re.compile(r'((?:invalid input|malformed)[^\n"]{0,200}: )".*?' + _END, re.DOTALL)


def cut_values(text: str) -> str:
    """The text of an error or a stack trace without parameters, literals and rows; anything else stays as it is."""
    return _BELOW.sub("\n[values cut]", _QUOTED.sub(r"\1[values cut]", text))
