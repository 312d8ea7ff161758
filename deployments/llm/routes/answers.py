"""Runs the generations of one request side by side: started together, read as they come, ended together.

It knows no shape of answer and no model.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from deployments.llm.engines.ports import (
    ChatEngine,
    ContextTooLongError,
    Generation,
    GenerationRequest,
    Piece,
    UnsupportedError,
    Usage,
)
from deployments.llm.errors import ApiError, translate

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25


async def start_generations(
    engine: ChatEngine, requests: Sequence[GenerationRequest], *, prompt: str, schema: str = "response_format"
) -> list[Generation]:
    """Queues all or none; `prompt` and `schema` are the parameters to blame for a prompt that is too long and for a
    schema that can't be held to. Raises ApiError and EngineError."""

    def start() -> list[Generation]:
        started: list[Generation] = []
        try:
            for request in requests:
                started.append(engine.generate(request))
        except BaseException as error:
            for generation in started:
                generation.cancel()
            if isinstance(error, ContextTooLongError):
                raise translate(error, prompt) from error
            if isinstance(error, UnsupportedError):
                raise translate(_blame(error, prompt, schema)) from error
            if isinstance(error, ValueError):  # a token that the model does not have
                raise ApiError(400, str(error), param=prompt) from error
            raise
        return started

    return await run_in_threadpool(start)


def _blame(error: UnsupportedError, prompt: str, schema: str) -> UnsupportedError:
    """The same error: an engine speaks of chat completions' parameters."""
    params = {"response_format": schema, "messages": prompt, "prompt": prompt}
    return UnsupportedError(str(error), params.get(error.param, error.param))


async def read_pieces(
    generations: Sequence[Generation], *, schema: str = "response_format"
) -> AsyncGenerator[tuple[int, Piece], None]:
    """Pieces with the index of their generation, as they come; `schema` is the parameter to blame for an answer that
    broke out of it. Raises EngineError, and ApiError where one was stopped before its end; when this ends or is
    closed, all are cancelled."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue()

    def pump(index: int, generation: Generation) -> None:
        try:
            end: BaseException | None = None
            for piece in generation:
                loop.call_soon_threadsafe(queue.put_nowait, (index, piece))
        except BaseException as error:
            end = error
        try:
            loop.call_soon_threadsafe(queue.put_nowait, (index, end))
        except RuntimeError:  # the loop is closed: nobody reads any more
            generation.cancel()

    finished: set[int] = set()
    left = len(generations)
    try:
        for index, generation in enumerate(generations):
            # Threads of their own: they live as long as the answers, and the pool's are few.
            threading.Thread(target=pump, args=(index, generation), name="answer", daemon=True).start()
        while left:
            index, item = await queue.get()
            if isinstance(item, UnsupportedError):
                raise _blame(item, "messages", schema) from item
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
                if index not in finished:
                    raise stopped()
                continue
            if item.finish_reason:
                finished.add(index)
            yield index, item
    finally:
        for generation in generations:
            generation.cancel()


async def collect_pieces(
    generations: Sequence[Generation], request: Request, *, schema: str = "response_format"
) -> list[list[Piece]]:
    """The whole answers; a client that goes away stops them. Raises as `read_pieces` does."""

    async def collect() -> list[list[Piece]]:
        collected: list[list[Piece]] = [[] for _ in generations]
        async with aclosing(read_pieces(generations, schema=schema)) as pieces:
            async for index, piece in pieces:
                collected[index].append(piece)
        return collected

    reading = asyncio.ensure_future(collect())
    try:
        while not (await asyncio.wait([reading], timeout=_POLL_SECONDS))[0]:
            if await request.is_disconnected():
                log.info("A client went away; %d generations are stopped", len(generations))
                for generation in generations:
                    generation.cancel()
                break
        return await reading
    finally:
        reading.cancel()
        for generation in generations:
            generation.cancel()


def sum_usage(usages: Sequence[Usage | None], prompts: int = 1) -> Usage:
    """The usage of several answers, of which as many in a row belong to each prompt: a prompt counts once."""
    known = [usage or Usage(0) for usage in usages]
    firsts = known[:: max(1, len(known) // prompts)]
    return Usage(
        sum(usage.prompt_tokens for usage in firsts),
        sum(usage.completion_tokens for usage in known),
        sum(usage.cached_tokens for usage in firsts),
    )


def stopped() -> ApiError:
    """Half an answer must not look like a whole one."""
    message = "The answer was stopped before its end; try again in a moment."
    return ApiError(503, message, code="generation_stopped", kind="server_error")
