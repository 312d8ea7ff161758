"""One request to an ASGI application, with an eye on how much of its body the application asked for."""

import asyncio
from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp, Message


class Call:
    """What was answered, and in `taken` how many bytes of the body were asked for; chunks are made when asked for."""

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        chunks: Iterable[bytes] = (),
        headers: Mapping[str, bytes] | None = None,
        *,
        kind: str = "http",
        method: str = "POST",
        root_path: str = "",
    ) -> None:
        self.taken, self.body = 0, b""
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.sent: list[Message] = []
        self._chunks = iter(chunks)
        scope = {
            "type": kind,
            "method": method,
            "path": path,
            "root_path": root_path,
            "query_string": b"",
            "headers": [(name.lower().encode(), value) for name, value in (headers or {}).items()],
        }
        asyncio.run(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        chunk = next(self._chunks, None)
        self.taken += len(chunk or b"")
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.start":
            assert self.status is None, "two answers to one request"
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        self.body += message.get("body", b"")
