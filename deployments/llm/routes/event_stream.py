"""An answer as server-sent events: an error in mid-stream is told in words, and a gone client's generations stop."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.llm.engines.ports import EngineError, Generation
from deployments.llm.errors import ApiError, translate

log = logging.getLogger(__name__)


def write_event(body: dict[str, Any], name: str = "") -> str:
    """One event."""
    return f"{f'event: {name}' + chr(10) if name else ''}data: {bytes(JSONResponse(body).body).decode()}\n\n"


def write_error(error: ApiError) -> str:
    """The event of an error in a stream of completions."""
    return write_event(error.body)


class AnswerStream(StreamingResponse):
    """The response; when it ends, however it ends, the generations are cancelled."""

    def __init__(
        self,
        events: AsyncGenerator[str, None],
        generations: Sequence[Generation],
        describe_error: Callable[[ApiError], str] = write_error,
    ) -> None:
        super().__init__(end_in_words(events, describe_error), media_type="text/event-stream")
        self._generations = generations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            for generation in self._generations:
                generation.cancel()


async def end_in_words(
    events: AsyncGenerator[str, None], describe_error: Callable[[ApiError], str]
) -> AsyncIterator[str]:
    """The events; where they fail, the last one is the error."""
    async with aclosing(events):
        try:
            async for event in events:
                yield event
        except ApiError as error:
            yield describe_error(error)
        except EngineError as error:
            yield describe_error(translate(error))
        except Exception:
            log.exception("A stream failed")
            failure = ApiError(
                500, "The server had an error; see its log.", code="server_error", kind="server_error"
            )
            yield describe_error(failure)
