"""Open connections: how many there may be, and how long a client may take to ask and to read what it is answered.

It knows no route. uvicorn itself ends idle connections alone, and its `limit_concurrency` would refuse probes too.
"""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

_TICK: Final = 0.25
"""Seconds between two looks at a connection."""
_BYTES_PER_SECOND: Final = 16 * 1024
"""Each so many bytes of a body give it a second more."""
_LEAST_READ: Final = 16 * 1024
"""Bytes of a waiting answer that must leave for its client to be one that reads."""


@dataclass(frozen=True)
class ConnectionLimits:
    """How many connections may be open, and seconds: for a head, for a body to begin with, for who reads nothing."""

    most: int
    head: float
    body: float
    send: float


@dataclass
class Connections:
    """Those that are open, and how many were closed before their time, by reason: crowded, head, body, answer."""

    open: set["Connection"] = field(default_factory=set)
    closed: Counter[str] = field(default_factory=Counter)


class Connection(H11Protocol):
    """One of uvicorn's connections, within limits. A request that it had is told that its client has gone."""

    def __init__(self, limits: ConnectionLimits, connections: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._limits, self._others = limits, connections
        self._watch: asyncio.TimerHandle | None = None
        self._stage, self._since, self._received = self._read_stage(), self.loop.time(), 0
        self._unsent, self._unread_since = 0, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Lets it in; where there are too many, the one that has asked nothing for longest goes."""
        super().connection_made(transport)
        idle = [other for other in self._others.open if not other._busy]
        self._others.open.add(self)
        if len(self._others.open) > self._limits.most:
            min(idle, key=lambda other: other._since, default=self)._close("crowded")
        if self in self._others.open:
            self._watch = self.loop.call_later(_TICK, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, whoever ended it."""
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something of a request has come."""
        self._received += len(data)
        super().data_received(data)

    @property
    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _busy(self) -> bool:
        return not self._answered or self.transport.get_write_buffer_size() > 0

    def _read_stage(self) -> tuple[object, ...]:
        """What it is at; another one for each request."""
        return self.conn.their_state, self.cycle, self._answered

    def _look(self) -> None:
        now = self.loop.time()
        if reason := self._find_late(now):
            self._close(reason)
        else:
            self._watch = self.loop.call_later(_TICK, self._look)

    def _find_late(self, now: float) -> str | None:
        stage, unsent = self._read_stage(), self.transport.get_write_buffer_size()
        # While this server doesn't listen, its client is not late.
        if stage != self._stage or (self.flow.read_paused and not self._answered):
            self._stage, self._since, self._received = stage, now, 0
        # It grows only where there is room: what was there before has been read.
        if unsent == 0 or unsent > self._unsent or unsent <= self._unsent - _LEAST_READ:
            self._unsent, self._unread_since = unsent, now
        if unsent and now - self._unread_since > self._limits.send:
            return "answer"
        if self.transport.is_closing():
            return None
        if self.conn.their_state is h11.IDLE and now - self._since > self._limits.head:
            return "head"
        # The rest of a body whose request is answered already is of no use: it gets no time for its length.
        more = 0 if self._answered else self._received / _BYTES_PER_SECOND
        if self.conn.their_state is h11.SEND_BODY and now - self._since > self._limits.body + more:
            return "body"
        return None

    def _close(self, reason: str) -> None:
        self._others.closed[reason] += 1
        if reason != "crowded":  # of those there may be thousands a second
            log.info("A connection was closed: %s", _describe(reason, self._limits))
        self._forget()
        self.transport.abort()  # a close would wait until all is sent

    def _forget(self) -> None:
        self._others.open.discard(self)
        if self._watch:
            self._watch.cancel()
            self._watch = None


def _describe(reason: str, limits: ConnectionLimits) -> str:
    return {
        "head": f"a request's head took longer than {limits.head:g} s",
        "body": f"a request's body took longer than {limits.body:g} s and one for each {_BYTES_PER_SECOND} bytes",
        "answer": f"its client took less than {_LEAST_READ} bytes of an answer in {limits.send:g} s",
    }[reason]
