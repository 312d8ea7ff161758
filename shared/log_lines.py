"""How the lines of a process's own log look: time in UTC and with its zone, level, who says it, what.

It knows no process.
"""

import logging
import time


def write_log(level: str) -> None:
    """From now on, this process's log goes to stderr in this form; `level` is the least that is written."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ"
    )
