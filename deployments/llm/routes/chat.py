"""`POST /v1/chat/completions`, whole or as a stream of server-sent events.

It knows no model: the engine answers.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from deployments.llm.api.chat_answers import ChunkedChoice, describe_choice, describe_usage
from deployments.llm.api.chat_requests import ChatBody
from deployments.llm.engines.ports import ChatEngine, Generation, Usage
from deployments.llm.routes.answers import collect_pieces, read_pieces, start_generations, sum_usage
from deployments.llm.routes.event_stream import AnswerStream, write_event


def chat_router(engine: ChatEngine) -> APIRouter:
    """The chat route over an engine."""
    router = APIRouter()

    @router.post("/chat/completions", response_model=None)
    async def create_chat_completion(body: ChatBody, request: Request) -> Response:
        generations = await start_generations(
            engine, body.as_requests(), prompt="messages", schema=body.blamed_schema
        )
        head = {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.model,
        }
        if body.stream:
            return AnswerStream(stream_chunks(generations, body, head), generations)
        answers = await collect_pieces(generations, request, schema=body.blamed_schema)
        choices = [
            describe_choice(index, pieces, body.read_answer(), bool(body.logprobs))
            for index, pieces in enumerate(answers)
        ]
        usage = sum_usage([pieces[-1].usage for pieces in answers])
        return JSONResponse({**head, "choices": choices, "usage": describe_usage(usage)})

    return router


async def stream_chunks(
    generations: Sequence[Generation], body: ChatBody, head: dict[str, Any]
) -> AsyncGenerator[str, None]:
    """Chunks of all choices as they come, then the usage where it is wanted. Raises as `read_pieces` does."""
    head = {**head, "object": "chat.completion.chunk", **({"usage": None} if body.wants_usage else {})}
    choices = [
        ChunkedChoice(index, body.read_answer(), bool(body.logprobs)) for index in range(len(generations))
    ]
    usages: dict[int, Usage] = {}
    for choice in choices:
        yield write_event({**head, "choices": [choice.begin()]})
    async with aclosing(read_pieces(generations, schema=body.blamed_schema)) as pieces:
        async for index, piece in pieces:
            if piece.usage:
                usages[index] = piece.usage
            for chunk in choices[index].push(piece):
                yield write_event({**head, "choices": [chunk]})
    if body.wants_usage:
        usage = sum_usage([usages.get(index) for index in range(len(generations))])
        yield write_event({**head, "choices": [], "usage": describe_usage(usage)})
    yield "data: [DONE]\n\n"
