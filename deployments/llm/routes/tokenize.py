"""`POST /tokenize` and `/detokenize`, as vLLM has them: how many tokens a prompt has, and which.

It knows no tokenizer: the engine counts.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from fastapi import APIRouter
from pydantic import Field, model_validator

from deployments.llm.api.messages import ChatMessage, render_messages
from deployments.llm.api.sampling import Name
from deployments.llm.engines.ports import ChatEngine
from deployments.llm.errors import ApiError
from deployments.llm.routes.models import Model, check_chat_model
from deployments.llm.routes.strict_body import StrictBody, refuse


class TokenizeBody(StrictBody):
    """Messages, a whole example where the assistant spoke last, else a prompt; or a text as it is.

    `add_generation_prompt` is let pass where it says what the last message says anyway. The tokens of messages are
    counted alone, those of a text are told too.
    """

    model: Name | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048)] | None = None
    prompt: str | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: bool | None = None

    @model_validator(mode="after")
    def check_together(self) -> Self:
        """One of two, and nothing that would change the count."""
        if (self.messages is None) == (self.prompt is None):
            raise refuse("Give 'messages' or 'prompt'.", "messages")
        if self.add_special_tokens:
            raise refuse("No special tokens are added here: send false.", "add_special_tokens")
        asked = self.add_generation_prompt
        if self.messages and asked is not None and asked == (self.messages[-1].role == "assistant"):
            raise refuse(
                "An answer is begun exactly where the assistant did not speak last.", "add_generation_prompt"
            )
        return self


class DetokenizeBody(StrictBody):
    """Tokens of the chat models."""

    model: Name | None = None
    tokens: Annotated[list[int], Field(max_length=1_000_000)]


def tokenize_router(engine: ChatEngine, list_models: Callable[[], Mapping[str, Model]]) -> APIRouter:
    """The routes over an engine, whose chat models share one tokenizer, and a function that names every model."""
    router = APIRouter()

    def check_model(model_id: str | None) -> None:
        if model_id is not None:
            check_chat_model(model_id, list_models())

    @router.post("/tokenize")
    def tokenize(body: TokenizeBody) -> dict[str, Any]:
        check_model(body.model)
        if body.messages is not None:
            count = engine.count_tokens(render_messages(body.messages))
            return {"count": count, "max_model_len": engine.max_model_len}
        tokens = engine.tokenize(body.prompt or "")
        return {"count": len(tokens), "max_model_len": engine.max_model_len, "tokens": tokens}

    @router.post("/detokenize")
    def detokenize(body: DetokenizeBody) -> dict[str, str]:
        check_model(body.model)
        try:
            return {"prompt": engine.detokenize(body.tokens)}
        except ValueError as error:
            raise ApiError(400, str(error), param="tokens") from error

    return router
