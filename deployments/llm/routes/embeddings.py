"""`POST /v1/embeddings`.

It knows no model: the engine computes the vectors.
"""

import base64
import struct
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from deployments.llm.engines.ports import EmbeddingEngine
from deployments.llm.errors import ApiError, model_not_found

Text = Annotated[str, Field(min_length=1)]


class EmbeddingsBody(BaseModel):
    """OpenAI's request body; token arrays are not supported."""

    model: str
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def embeddings_router(engine: EmbeddingEngine) -> APIRouter:
    """The embeddings route over an engine."""
    router = APIRouter()

    @router.post("/embeddings")
    async def create_embeddings(body: EmbeddingsBody) -> dict[str, Any]:
        if body.model not in engine.models:
            raise model_not_found(body.model)
        texts = [body.input] if isinstance(body.input, str) else body.input
        result = await run_in_threadpool(engine.embed, body.model, texts)
        if body.dimensions not in (None, len(result.vectors[0])):
            raise ApiError(
                400,
                f"This model has {len(result.vectors[0])} dimensions; leave `dimensions` out.",
                param="dimensions",
            )
        data = [
            {"object": "embedding", "index": index, "embedding": _encode(vector, body.encoding_format)}
            for index, vector in enumerate(result.vectors)
        ]
        usage = {"prompt_tokens": result.prompt_tokens, "total_tokens": result.prompt_tokens}
        return {"object": "list", "data": data, "model": body.model, "usage": usage}

    return router


def _encode(vector: list[float], encoding: str) -> list[float] | str:
    """Base64 is of little-endian 32-bit floats, as OpenAI's client decodes it."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
