"""`POST /tokenize`, as vLLM has it: how many tokens messages have, before anything is asked or bought.

It knows no tokenizer: the engine counts.
"""

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from deployments.llm.engines.ports import ChatEngine
from deployments.llm.routes.chat import ChatMessage


class TokenizeBody(BaseModel):
    """A whole example where the assistant spoke last, else a prompt; other fields are ignored."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]


def tokenize_router(engine: ChatEngine) -> APIRouter:
    """The route over an engine, whose chat models share one tokenizer."""
    router = APIRouter()

    @router.post("/tokenize")
    def count_tokens(body: TokenizeBody) -> dict[str, int]:
        count = engine.count_tokens([message.plain() for message in body.messages])
        return {"count": count, "max_model_len": engine.max_model_len}

    return router
