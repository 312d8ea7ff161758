"""`POST /v1/embeddings`.

It knows no model: the engine computes the vectors.
"""

import base64
import json
import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse
from pydantic import Field, PlainValidator
from starlette.concurrency import run_in_threadpool

from deployments.llm.engines.ports import EmbeddingEngine, EmbeddingModel, Embeddings
from deployments.llm.errors import ApiError, model_not_found
from deployments.llm.routes.strict_body import StrictBody, refuse

_MOST_INPUTS: Final = 2048
_AT_ONCE: Final = 256
"""Vectors written before they are sent."""

Input = str | list[int]
OneOrMore = str | list[str] | list[int] | list[list[int]]


def split_input(given: Any) -> list[Input]:
    """The texts and token lists that `input` holds: one or a list of either. Raises pydantic's error, in words."""
    tokens = isinstance(given, list) and bool(given) and all(type(one) is int for one in given)
    inputs = given if isinstance(given, list) and not tokens else [given]
    if not inputs:
        raise refuse("'input' is an empty list: send a text or a list of texts.")
    if len(inputs) > _MOST_INPUTS:
        raise refuse(f"'input' has {len(inputs)} elements; at most {_MOST_INPUTS} are embedded at once.")
    for index, one in enumerate(inputs):
        if reason := _find_fault(one):
            raise refuse(f"'input'{f'[{index}]' if inputs is given else ''} {reason}.")
    return inputs


def _find_fault(one: Any) -> str | None:
    if not one and isinstance(one, (str, list)):
        return "is empty: leave it out"
    if isinstance(one, str):
        try:
            one.encode()
        except UnicodeEncodeError:
            return "holds half a surrogate pair, which is no character"
        return None
    if isinstance(one, list):
        return (
            None
            if all(type(token) is int for token in one)
            else "holds something that is not a token's number"
        )
    return "is neither a text nor a list of tokens"


class EmbeddingsBody(StrictBody):
    """OpenAI's request body. What is longer than the model reads is cut; `user` is taken and kept nowhere."""

    model: str
    input: Annotated[list[Input], PlainValidator(split_input, json_schema_input_type=OneOrMore)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


def embeddings_router(engine: EmbeddingEngine) -> APIRouter:
    """The embeddings route over an engine."""
    router = APIRouter()

    @router.post("/embeddings", response_model=None)
    async def create_embeddings(body: EmbeddingsBody) -> Response:
        if body.model not in engine.models:
            raise model_not_found(body.model)
        check_dimensions(engine.models[body.model], body.dimensions)
        result = await run_in_threadpool(_embed, engine, body.model, body.input)
        written = write_answer(body, result.vectors, result.prompt_tokens)
        if len(body.input) <= _AT_ONCE:
            return Response(b"".join(written), media_type="application/json")
        return StreamingResponse(written, media_type="application/json")

    return router


def check_dimensions(model: EmbeddingModel, wanted: int | None) -> None:
    """Whether vectors of that many numbers can be had. Raises ApiError."""
    if wanted is None or wanted == model.dimensions or not model.dimensions:
        return
    if not model.truncatable:
        message = f"This model's vectors have {model.dimensions} dimensions and can't be cut; leave `dimensions` out."
    elif wanted > model.dimensions:
        message = f"This model's vectors have {model.dimensions} dimensions, not {wanted}."
    else:
        return
    raise ApiError(400, message, param="dimensions", code="unsupported_value")


def write_answer(body: EmbeddingsBody, vectors: Sequence[Sequence[float]], tokens: int) -> Iterator[bytes]:
    """OpenAI's answer as JSON, a few vectors at a time: as text they take five times their memory."""
    yield b'{"object":"list","data":['
    for start in range(0, len(vectors), _AT_ONCE):
        some = enumerate(vectors[start : start + _AT_ONCE], start)
        items = [
            {"object": "embedding", "index": index, "embedding": _encode(vector, body)}
            for index, vector in some
        ]
        yield (b"," if start else b"") + _dump(items)[1:-1]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    yield b"]," + _dump({"model": body.model, "usage": usage})[1:]


def _embed(engine: EmbeddingEngine, model: str, inputs: Sequence[Input]) -> Embeddings:
    try:
        return engine.embed(model, inputs)
    except ValueError as error:
        hint = (
            "Token numbers are those of the embedding model's own tokenizer, not tiktoken's; texts are safer."
        )
        raise ApiError(400, f"{error} {hint}", param="input", code="invalid_token") from error


def _encode(vector: Sequence[float], body: EmbeddingsBody) -> list[float] | str:
    """Base64 is of little-endian 32-bit floats, as OpenAI's client decodes it."""
    if body.dimensions and body.dimensions < len(vector):
        vector = vector[: body.dimensions]
        length = math.hypot(*vector) or 1.0
        vector = [number / length for number in vector]
    if body.encoding_format != "base64":
        return list(vector)
    return base64.b64encode(array("f", vector).tobytes()).decode()


def _dump(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
