"""One line in the log for every request: method, path, status and how long it took; a stream to its end.

It knows no route; bodies, headers and queries are never logged.
"""

import logging
import time
from typing import Final
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_UNLOGGED: Final = frozenset({"/health"})


class RequestLog:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNLOGGED:
            await self._app(scope, receive, send)
            return
        status, started = 500, time.monotonic()

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            # Quoted, so that no path can begin a line of its own.
            milliseconds = (time.monotonic() - started) * 1000
            log.info("%s %s %d %.0f ms", scope["method"], quote(scope["path"]), status, milliseconds)
