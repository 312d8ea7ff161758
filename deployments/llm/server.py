"""uvicorn within limits, which stops in order: no new requests, some seconds for those that run, a word to the others.

It knows no route and no engine.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from socket import socket
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from deployments.llm.connections import Connection, ConnectionLimits, Connections
from deployments.llm.request_notes import RequestNotes
from deployments.llm.settings import LlmSettings
from deployments.llm.work import StoppingError

log = logging.getLogger(__name__)

_BACKLOG: Final = 128
"""Connections that are taken up before it is looked whether there is room: a process has 1,024 files or fewer."""
_TICK: Final = 0.05
_LAST_WORDS: Final = 2.0
"""Seconds in which what is ended can say so: an embedding engine ends between two batches."""


@dataclass
class Running:
    """The requests that run, and whether new ones are let in."""

    requests: set[RequestNotes] = field(default_factory=set)
    connections: Connections = field(default_factory=Connections)
    stopping: bool = False

    def abandon(self) -> None:
        """Ends the work for all of them."""
        error = StoppingError("The server is stopping; the answer was ended before it was whole.")
        for notes in list(self.requests):
            notes.abandon(error)


def build_config(app: ASGIApp, settings: LlmSettings, running: Running) -> uvicorn.Config:
    """Where and within what limits uvicorn serves the application."""
    limits = ConnectionLimits(
        most=settings.llm_max_connections,
        head=settings.llm_head_timeout,
        body=settings.llm_body_timeout,
        send=settings.llm_send_timeout,
    )
    return uvicorn.Config(
        app,
        host=settings.llm_host,
        port=settings.llm_port,
        # All that uvicorn does with it is to call it.
        http=partial(Connection, limits, running.connections),  # type: ignore[arg-type]
        ws="none",  # which would take a connection out of its limits
        backlog=_BACKLOG,
        log_level=settings.log_level.lower(),
        access_log=False,
        timeout_graceful_shutdown=1,
    )


class Server(uvicorn.Server):
    """uvicorn's, which turns new requests away in words while those that run end, for `seconds` at most."""

    def __init__(self, config: uvicorn.Config, running: Running, seconds: float) -> None:
        super().__init__(config)
        self._running, self._seconds = running, seconds

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Before uvicorn's own, which closes the door and cuts what has not ended."""
        self._running.stopping = True
        log.info("Stopping; %d requests run", len(self._running.requests))
        if not await self._wait(self._seconds):
            log.warning("%d requests are ended before their time", len(self._running.requests))
            self._running.abandon()
            await self._wait(_LAST_WORDS)
        await super().shutdown(sockets)

    async def _wait(self, seconds: float) -> bool:
        return await wait_until(lambda: self.force_exit or not self._running.requests, seconds)


async def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Whether it was done within these seconds."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        await asyncio.sleep(_TICK)
    return done()
