"""One line in the log for every request: method, path's template, status, time, and for whom and with what.

It knows no route; bodies, headers, queries and names in paths are never logged.
"""

import logging
from typing import Final
from urllib.parse import quote

from deployments.llm.request_notes import UNMATCHED, RequestNotes

log = logging.getLogger(__name__)

_UNLOGGED: Final = frozenset({"/health", "/ready", "/metrics"})
_LONGEST_PATH: Final = 200


def log_request(notes: RequestNotes) -> None:
    """Writes the line."""
    if notes.route in _UNLOGGED:
        return
    # Quoted, so that no path can begin a line of its own.
    path = quote(notes.path)[:_LONGEST_PATH] if notes.route == UNMATCHED else notes.route
    work = ""
    if notes.model:
        work = f" model={notes.model} tokens={notes.prompt_tokens}+{notes.completion_tokens}"
    milliseconds = notes.seconds * 1000
    log.info("%s %s %d %.0f ms key=%s%s", notes.method, path, notes.status, milliseconds, notes.key, work)
