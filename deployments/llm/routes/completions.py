"""`POST /v1/completions`: text or tokens continued, or only scored, whole or as a stream.

It knows no model: the engines continue and score.
"""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from deployments.llm.api.chat_answers import describe_usage
from deployments.llm.api.logprobs import describe_text_logprobs
from deployments.llm.api.text_requests import CompletionBody
from deployments.llm.engines.ports import (
    ChatEngine,
    ContextTooLongError,
    Generation,
    Piece,
    ScoringEngine,
    TokenLogprob,
    Tokens,
    Usage,
)
from deployments.llm.errors import ApiError, translate
from deployments.llm.routes.answers import collect_pieces, read_pieces, start_generations, sum_usage
from deployments.llm.routes.event_stream import AnswerStream, write_event
from deployments.llm.routes.models import Model, check_chat_model


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is echoed and counted; `tokens` only where it is scored or nothing is written."""

    given: str | Tokens
    text: str = ""
    tokens: Tokens = ()
    scores: tuple[TokenLogprob, ...] = ()


def completions_router(
    engine: ChatEngine, scoring: ScoringEngine, list_models: Callable[[], Mapping[str, Model]]
) -> APIRouter:
    """The completions route over a chat engine, the one that scores prompts, and a function that names every model."""
    router = APIRouter()

    def read_prompt(body: CompletionBody, given: str | Tokens) -> Prompt:
        """What has to be known of a prompt; blocks while it is scored. Raises ApiError and EngineError."""
        try:
            text = given if isinstance(given, str) else engine.detokenize(given) if body.echo else ""
            if not body.scores_prompt and body.limit:
                return Prompt(given, text)
            tokens = engine.tokenize(given) if isinstance(given, str) else given
            if len(tokens) + body.limit > engine.max_model_len:
                raise ContextTooLongError(engine.max_model_len, len(tokens), body.limit)
            if not body.scores_prompt:
                return Prompt(given, text, tokens)
            # The same tokens are scored and continued.
            return Prompt(tokens, text, tokens, tuple(scoring.score(body.model, tokens, body.logprobs or 0)))
        except ContextTooLongError as error:
            raise translate(error, "prompt") from error
        except ValueError as error:
            raise ApiError(400, str(error), param="prompt") from error

    @router.post("/completions", response_model=None)
    async def create_completion(body: CompletionBody, request: Request) -> Response:
        check_chat_model(body.model, list_models())
        prompts: list[Prompt] = []
        for given in body.prompts:
            prompts.append(await run_in_threadpool(read_prompt, body, given))
            if await request.is_disconnected():
                break
        head = {
            "id": f"cmpl-{uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": body.model,
        }
        requests = [one for prompt in prompts for one in body.as_requests(prompt.given)] if body.limit else []
        generations = await start_generations(engine, requests, prompt="prompt")
        if body.stream:
            return AnswerStream(stream_chunks(generations, prompts, body, head), generations)
        answers = await collect_pieces(generations, request)
        choices, usage = describe_answers(body, prompts, answers)
        return JSONResponse({**head, "choices": choices, "usage": describe_usage(usage)})

    return router


def describe_answers(
    body: CompletionBody, prompts: Sequence[Prompt], answers: Sequence[Sequence[Piece]]
) -> tuple[list[dict[str, Any]], Usage]:
    """All choices, those of a prompt together, and their usage; `answers` is empty where nothing is written."""
    each = body.n or 1
    choices = []
    for index in range(len(prompts) * each):
        prompt, pieces = (
            prompts[index // each],
            answers[index] if answers else [nothing(prompts[index // each])],
        )
        text = "".join(piece.text for piece in pieces)
        told = [token for piece in pieces for token in piece.logprobs]
        if body.echo:
            text, told = prompt.text + text, [*prompt.scores, *told]
        logprobs = describe_text_logprobs(told) if body.logprobs is not None else None
        choices.append(_choice(index, text, pieces[-1].finish_reason, logprobs))
    usages = [pieces[-1].usage for pieces in answers] or [nothing(prompt).usage for prompt in prompts]
    return choices, sum_usage(usages, len(prompts))


async def stream_chunks(
    generations: Sequence[Generation], prompts: Sequence[Prompt], body: CompletionBody, head: dict[str, Any]
) -> AsyncGenerator[str, None]:
    """Chunks of all choices as they come, then the usage where it is wanted. Raises as `read_pieces` does."""
    head = {**head, **({"usage": None} if body.wants_usage else {})}
    each = body.n or 1
    usages: list[Usage | None] = [None] * len(generations)
    starts = [0] * len(prompts) * each  # where in its text each choice goes on
    for index in range(len(starts) if body.echo or not generations else 0):
        prompt = prompts[index // each]
        text, finish = prompt.text if body.echo else "", None if generations else "length"
        logprobs = describe_text_logprobs(prompt.scores) if body.logprobs is not None else None
        starts[index] = len(text)
        yield write_event({**head, "choices": [_choice(index, text, finish, logprobs)]})
    async with aclosing(read_pieces(generations)) as pieces:
        async for index, piece in pieces:
            usages[index] = piece.usage or usages[index]
            logprobs = describe_text_logprobs(piece.logprobs, starts[index]) if piece.logprobs else None
            starts[index] += len(b"".join(token.data for token in piece.logprobs).decode(errors="ignore"))
            if piece.text or piece.finish_reason or logprobs:
                yield write_event(
                    {**head, "choices": [_choice(index, piece.text, piece.finish_reason, logprobs)]}
                )
    if body.wants_usage:
        usage = sum_usage(usages or [nothing(prompt).usage for prompt in prompts], len(prompts))
        yield write_event({**head, "choices": [], "usage": describe_usage(usage)})
    yield "data: [DONE]\n\n"


def nothing(prompt: Prompt) -> Piece:
    """The answer of no tokens."""
    return Piece("", "length", Usage(len(prompt.tokens)))


def _choice(index: int, text: str, finish: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}
