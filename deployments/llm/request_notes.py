"""What is known of a request while it runs and told when it has ended: its key, model, tokens, status and time.

It knows no route, engine or log; whoever works for the request finds its notes in the context.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNMATCHED: Final = "unmatched"
NO_KEY: Final = "-"
CLIENT_GONE: Final = 499
"""The status that is told, as nginx does, where nobody was there to be answered."""
Stop = Callable[[Exception], None]


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(eq=False)
class RequestNotes:
    """Notes on one request; tokens are what the engines read and wrote for it, in whatever thread they do so."""

    method: str
    path: str
    started: float
    route: str = UNMATCHED
    """The path's template, such as `/v1/files/{file_id}`."""
    status: int = 500
    seconds: float = 0.0
    key: str = NO_KEY
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """What the answer carries besides its own headers."""
    at_end: list[Callable[[], None]] = field(default_factory=list)
    when_spent: list[Callable[[int], None]] = field(default_factory=list)
    """Called with the tokens of each piece of work, some of which is known only after the request's end."""
    _stops: list[Stop] = field(default_factory=list)
    _error: Exception | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, model: str, prompt_tokens: int, completion_tokens: int = 0) -> None:
        """Notes work that was done for the request."""
        with self._lock:
            self.model = model
            self.prompt_tokens += prompt_tokens
            self.completion_tokens += completion_tokens
        for tell in self.when_spent:
            tell(prompt_tokens + completion_tokens)

    def when_abandoned(self, stop: Stop) -> None:
        """Calls `stop` once the work is of no use any more; at once where it is so already."""
        with self._lock:
            self._stops.append(stop)
            error = self._error
        if error:
            stop(error)

    def abandon(self, error: Exception) -> None:
        """Ends all work for the request, for this reason; only the first one counts."""
        with self._lock:
            if self._error:
                return
            self._error, stops = error, list(self._stops)
        for stop in stops:
            stop(error)


_current: ContextVar[RequestNotes | None] = ContextVar("request_notes", default=None)


def get_notes() -> RequestNotes | None:
    """The notes of the request that this code works for; None outside of one."""
    return _current.get()


class NoteRequests:
    """ASGI middleware, the outermost. `tell` is called with the notes of each request that has ended.

    `running` holds those that have not; a client that goes away, or `abandon_all`, ends the work for a request.
    """

    def __init__(
        self, app: ASGIApp, *, tell: Sequence[Callable[[RequestNotes], None]], running: set[RequestNotes]
    ) -> None:
        self._app, self._tell, self._running = app, tell, running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        notes = RequestNotes(scope["method"], scope["path"], time.monotonic())
        watch: asyncio.Task[None] | None = None
        answered = False

        async def watch_client() -> None:
            if (await receive())["type"] != "http.disconnect" or answered:
                return
            notes.status = CLIENT_GONE
            notes.abandon(ClientGoneError("the client went away"))

        async def read() -> Message:
            nonlocal watch
            message = await receive()
            # From here on nothing comes but that the client leaves.
            if message["type"] == "http.request" and not message.get("more_body") and watch is None:
                watch = asyncio.create_task(watch_client())
            return message

        async def write(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                if notes.status != CLIENT_GONE:
                    notes.status = message["status"]
                MutableHeaders(scope=message).update(notes.headers)
            await send(message)

        token = _current.set(notes)
        self._running.add(notes)
        try:
            await self._app(scope, read, write)
        finally:
            _current.reset(token)
            self._running.discard(notes)
            if watch:
                watch.cancel()
                await asyncio.wait({watch})
            notes.seconds = time.monotonic() - notes.started
            notes.route = getattr(scope.get("route"), "path_format", UNMATCHED)
            for finish in notes.at_end:
                finish()
            for tell in self._tell:
                tell(notes)
