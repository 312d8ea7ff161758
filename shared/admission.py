"""Lets an HTTP request in or turns it away before a byte of its body is read: ASGI middleware ahead of an application.

It knows no route, user or error format: the application says who may come in where, how much may be sent, and how a
refusal is worded.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY_VIOLATION: Final = 1008  # of a WebSocket; before it is accepted, servers answer 403


class Refusal(Exception):
    """A request is turned away: the status, what to do instead, and headers such as WWW-Authenticate."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


class ExposedError(ValueError):
    """A server without a secret would listen where others can reach it."""


@dataclass(frozen=True)
class Rule:
    """What holds for a path and all below it: the longest body in bytes, and whether everyone may come in."""

    max_bytes: int
    open: bool = False


class Admission:
    """ASGI middleware. Of `rules`, by path, the longest that fits holds; "/" is for all that no other fits.

    `check` looks at the headers where the rule isn't open: it raises Refusal, or returns; what it leaves in the
    connection's `state` is there for the request too. `answer` words a refusal. Neither sees a body.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        rules: Mapping[str, Rule],
        check: Callable[[HTTPConnection], Awaitable[None]],
        answer: Callable[[Refusal], Response],
    ) -> None:
        if "/" not in rules:
            raise ValueError('the rules need one for "/"')
        self._app, self._check, self._answer, self._rest = app, check, answer, rules["/"]
        self._rules = sorted(rules.items(), key=lambda item: len(item[0]), reverse=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection, rule = HTTPConnection(scope), self._find_rule(find_route_path(scope))
        try:
            if not rule.open:
                await self._check(connection)
            if _declared_bytes(connection) > rule.max_bytes:
                raise _too_long(rule)
        except Refusal as refusal:
            await self._refuse(refusal, connection, receive, send)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._count(rule, connection, receive, send)

    def _find_rule(self, path: str) -> Rule:
        fitting = (rule for prefix, rule in self._rules if f"{path}/".startswith(f"{prefix.rstrip('/')}/"))
        return next(fitting, self._rest)

    async def _count(self, rule: Rule, connection: HTTPConnection, receive: Receive, send: Send) -> None:
        """Runs the application; a body that grows too long ends for it as if the client had gone away."""
        seen, too_long, started = 0, False, False

        async def read() -> Message:
            nonlocal seen, too_long
            if not too_long:
                message = await receive()
                seen += len(message.get("body", b""))
                too_long = seen > rule.max_bytes
            return {"type": "http.disconnect"} if too_long else message

        async def write(message: Message) -> None:
            nonlocal started
            if too_long and not started:
                return  # what the application says of half a body is not the answer
            started = True
            await send(message)

        try:
            await self._app(connection.scope, read, write)
        except Exception:
            if started or not too_long:
                raise
        if too_long and not started:
            await self._refuse(_too_long(rule), connection, receive, send)

    async def _refuse(
        self, refusal: Refusal, connection: HTTPConnection, receive: Receive, send: Send
    ) -> None:
        if connection.scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
            return
        response = self._answer(refusal)
        response.headers.update(refusal.headers)
        if _has_body(connection):
            response.headers["Connection"] = "close"  # else the server reads the rest, to throw it away
        await response(connection.scope, receive, send)


def find_route_path(scope: Scope) -> str:
    """The path that Starlette's router matches: a rule must not see another one. A test holds the two together."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    below = path.removeprefix(root)
    return below if not below or below.startswith("/") else path


def check_exposure(host: str, secret: str, remedy: str) -> None:
    """Raises ExposedError, with the remedy, where a server without a secret would listen beyond this machine."""
    if not secret.strip() and not _is_loopback(host):
        raise ExposedError(f"Without a secret nothing may listen on {host or 'all addresses'}: {remedy}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _declared_bytes(connection: HTTPConnection) -> int:
    length = connection.headers.get("Content-Length", "")
    # Twenty digits are too many bytes already. What is no number is counted.
    return int(length[:20]) if length.isascii() and length.isdecimal() else 0


def _has_body(connection: HTTPConnection) -> bool:
    return _declared_bytes(connection) > 0 or "Transfer-Encoding" in connection.headers


def _too_long(rule: Rule) -> Refusal:
    return Refusal(
        413, f"The request's body is longer than {rule.max_bytes} bytes, the most that is taken here."
    )
