"""`POST /v1/responses` for text and functions, whole or as typed events. Nothing is stored.

It knows no model: the engine answers.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from deployments.llm.api.response_events import Event, GrowingResponse
from deployments.llm.api.response_requests import ResponseBody
from deployments.llm.engines.ports import ChatEngine, Generation
from deployments.llm.errors import ApiError
from deployments.llm.routes.answers import collect_pieces, read_pieces, start_generations
from deployments.llm.routes.event_stream import AnswerStream, write_event


def responses_router(engine: ChatEngine) -> APIRouter:
    """The route over an engine."""
    router = APIRouter()

    @router.post("/responses", response_model=None)
    async def create_response(body: ResponseBody, request: Request) -> Response:
        generations = await start_generations(
            engine, [body.as_request()], prompt="input", schema=body.blamed_schema
        )
        growing = GrowingResponse(body, body.read_answer(), int(time.time()))
        if body.stream:

            def describe_error(error: ApiError) -> str:
                return _write(growing.fail(str(error)))

            return AnswerStream(stream_events(generations, growing), generations, describe_error)
        (pieces,) = await collect_pieces(generations, request, schema=body.blamed_schema)
        for piece in pieces:
            list(growing.push(piece))
        return JSONResponse(growing.describe())

    return router


async def stream_events(
    generations: Sequence[Generation], growing: GrowingResponse
) -> AsyncGenerator[str, None]:
    """Typed events to the last. Raises as `read_pieces` does."""
    for event in growing.begin():
        yield _write(event)
    async with aclosing(read_pieces(generations)) as pieces:
        async for _, piece in pieces:
            for event in growing.push(piece):
                yield _write(event)


def _write(event: Event) -> str:
    return write_event(event, event["type"])
