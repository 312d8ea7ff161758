"""A word to requests that are still being sent when the server stops: ASGI middleware, inside the notes on requests.

It knows no route and no error format: the application says how the reason is worded.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.llm.request_notes import get_notes


class AnswerHalfRequests:
    """To the application a request that is abandoned before its body is whole ends as if the client had gone away.

    What it says of that is not the answer; `answer` words the reason for which it was abandoned.
    """

    def __init__(self, app: ASGIApp, *, answer: Callable[[Exception], Response]) -> None:
        self._app, self._answer = app, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        notes = get_notes()
        if scope["type"] != "http" or notes is None:
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        abandoned: asyncio.Future[Exception] = loop.create_future()
        whole = cut = started = False

        def note(error: Exception) -> None:
            if not abandoned.done():
                abandoned.set_result(error)

        def abandon(error: Exception) -> None:  # from any thread
            loop.call_soon_threadsafe(note, error)

        async def read() -> Message:
            nonlocal whole, cut
            if whole:
                return await receive()
            reading = asyncio.ensure_future(receive())
            either: set[asyncio.Future[Any]] = {reading, abandoned}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                reading.cancel()  # which does nothing to what is done
            cut = abandoned.done()
            if cut:
                return {"type": "http.disconnect"}
            message = reading.result()
            whole = not message.get("more_body")
            return message

        async def write(message: Message) -> None:
            nonlocal started
            if cut and not started:
                return
            started = True
            await send(message)

        notes.when_abandoned(abandon)
        try:
            await self._app(scope, read, write)
        except Exception:
            if started or not cut:
                raise
        if cut and not started:
            response = self._answer(abandoned.result())
            response.headers["Connection"] = "close"  # else the server reads the rest, to throw it away
            await response(scope, receive, send)
