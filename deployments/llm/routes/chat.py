"""`POST /v1/chat/completions`, whole or as a stream of server-sent events.

It knows no model: the engine answers.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from deployments.llm.engines.ports import ChatEngine, EngineError, Generation, GenerationRequest, Piece, Usage
from deployments.llm.errors import ApiError, translate

log = logging.getLogger(__name__)


class TextPart(BaseModel):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message; a list of text parts counts as one text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def plain(self) -> dict[str, str]:
        """What the chat template takes."""
        content = (
            self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        )
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class StreamOptions(BaseModel):
    """What else a stream carries."""

    include_usage: bool = False


class ChatBody(BaseModel):
    """OpenAI's request body; fields that are not here are ignored."""

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    n: Literal[1] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def as_request(self) -> GenerationRequest:
        """What the engine is asked."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return GenerationRequest(
            model=self.model,
            prompt=[message.plain() for message in self.messages],
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            seed=self.seed,
            stop=tuple(stop),
        )


def chat_router(engine: ChatEngine) -> APIRouter:
    """The chat route over an engine."""
    router = APIRouter()

    @router.post("/chat/completions", response_model=None)
    async def create_chat_completion(body: ChatBody, request: Request) -> Response:
        generation = await run_in_threadpool(engine.generate, body.as_request())
        head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": body.model}
        if body.stream:
            usage = bool(body.stream_options and body.stream_options.include_usage)
            return StreamingResponse(stream_events(generation, head, usage), media_type="text/event-stream")
        pieces = await collect(generation, request)
        if not pieces or pieces[-1].finish_reason is None:
            raise stopped()
        return JSONResponse(_completion(head, pieces))

    return router


async def collect(generation: Generation, request: Request) -> list[Piece]:
    """The whole answer; a client that goes away stops the generation."""
    reading = asyncio.ensure_future(run_in_threadpool(lambda: list(generation)))
    try:
        while not reading.done():
            await asyncio.wait([reading], timeout=0.25)
            if not reading.done() and await request.is_disconnected():
                log.info("A client went away; its generation is stopped")
                generation.cancel()
                break
        return await reading
    finally:
        generation.cancel()


async def stream_events(
    generation: Generation, head: dict[str, Any], include_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events of an answer; closing the stream stops the generation."""
    usage: Usage | None = None
    try:
        yield _event(head, {"role": "assistant", "content": ""}, include_usage=include_usage)
        async for piece in iterate_in_threadpool(iter(generation)):
            if piece.text:
                yield _event(head, {"content": piece.text}, include_usage=include_usage)
            if piece.finish_reason:
                usage = piece.usage
                yield _event(head, {}, piece.finish_reason, include_usage=include_usage)
        if usage is None:
            yield _sse(stopped().body)
            return
        if include_usage:
            yield _sse({**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(usage)})
        yield "data: [DONE]\n\n"
    except EngineError as error:
        yield _sse(translate(error).body)
    finally:
        generation.cancel()


def stopped() -> ApiError:
    """Half an answer must not look like a whole one."""
    message = "The answer was stopped before its end; try again in a moment."
    return ApiError(503, message, code="generation_stopped", kind="server_error")


def _completion(head: dict[str, Any], pieces: list[Piece]) -> dict[str, Any]:
    last = pieces[-1]
    message = {"role": "assistant", "content": "".join(piece.text for piece in pieces), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": last.finish_reason, "logprobs": None}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(last.usage or Usage(0))}


def _event(
    head: dict[str, Any], delta: dict[str, str], finish: str | None = None, *, include_usage: bool = False
) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    event = {**head, "object": "chat.completion.chunk", "choices": [choice]}
    return _sse({**event, "usage": None} if include_usage else event)


def _sse(body: dict[str, Any]) -> str:
    return f"data: {JSONResponse(body).body.decode()}\n\n"  # type: ignore[union-attr]


def _usage(usage: Usage) -> dict[str, int]:
    total = usage.prompt_tokens + usage.completion_tokens
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": total,
    }
