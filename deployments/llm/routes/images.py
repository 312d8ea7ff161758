"""`POST /v1/images/generations`: a typographic card, not a diffusion model.

It knows no drawing.
"""

import base64
import time
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from deployments.llm.cards import DEFAULT_SIZE, SIZES, draw_card
from deployments.llm.errors import ApiError, model_not_found
from deployments.llm.routes.strict_body import StrictBody
from shared import contracts


class ImageBody(StrictBody):
    """OpenAI's request body; the answer is always one PNG in base64.

    `user` and `safety_identifier` can have no effect and are let pass, as are the values of other fields that ask for
    what is done anyway.
    """

    refused: ClassVar = {
        "style": "a card has one style.",
        "output_compression": "a PNG loses nothing.",
        "partial_images": "leave it out.",
        "image": "pictures are drawn from words alone.",
    }

    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    model: str = contracts.LOCAL_IMAGE_MODEL
    n: Literal[1] | None = None
    size: str | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png"] | None = None
    quality: Literal["auto"] | None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto", "low"] | None = None
    stream: Literal[False] | None = None
    user: str | None = None
    safety_identifier: str | None = None


def images_router() -> APIRouter:
    """The image route."""
    router = APIRouter()

    @router.post("/images/generations")
    async def create_image(body: ImageBody) -> dict[str, Any]:
        if body.model != contracts.LOCAL_IMAGE_MODEL:
            raise model_not_found(body.model)
        size = DEFAULT_SIZE if body.size in (None, "auto") else str(body.size)
        if size not in SIZES:
            raise ApiError(
                400, f"'{size}' is not one of {', '.join(SIZES)}.", param="size", code="invalid_size"
            )
        image = await run_in_threadpool(draw_card, body.prompt, size)
        data = [{"b64_json": base64.b64encode(image).decode()}]
        return {"created": int(time.time()), "data": data, "size": size, "output_format": "png"}

    return router
