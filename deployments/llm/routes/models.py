"""`/v1/models`: list, retrieve, delete.

It knows no weights: the engine names the base models, the job store the fine-tuned ones.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from fastapi import APIRouter

from deployments.llm.engines.ports import UnknownModelError
from deployments.llm.errors import ApiError

log = logging.getLogger(__name__)

_ALIASES: Final = (
    "whoever names it by an alias, such as a pipeline's champion, gets an error from now on: "
    "this server can't see aliases."
)


class Model(NamedTuple):
    """What is told of a model: when it was made, and for chat models how many tokens they take at most."""

    created: int
    max_model_len: int | None = None


def models_router(
    list_models: Callable[[], Mapping[str, Model]], delete_model: Callable[[str], bool]
) -> APIRouter:
    """Routes over a function that names every servable model, and one that deletes a fine-tuned one, or says that it is
    none."""
    router = APIRouter()

    @router.get("/models")
    def get_models() -> dict[str, Any]:
        return {"object": "list", "data": [_describe(*item) for item in list_models().items()]}

    # An id from a hub has a slash in it.
    @router.get("/models/{model_id:path}")
    def get_model(model_id: str) -> dict[str, Any]:
        models = list_models()
        if model_id not in models:
            raise UnknownModelError(model_id)
        return _describe(model_id, models[model_id])

    @router.delete("/models/{model_id:path}")
    def remove_model(model_id: str) -> dict[str, Any]:
        if not delete_model(model_id):
            if model_id in list_models():
                message = f"'{model_id}' is not fine-tuned here, so it can't be deleted."
                raise ApiError(403, message, param="model", code="model_not_deletable")
            raise UnknownModelError(model_id)
        log.warning("The model %s was deleted; %s", model_id, _ALIASES)
        return {"id": model_id, "object": "model", "deleted": True, "warning": _ALIASES}

    return router


def check_chat_model(model_id: str, models: Mapping[str, Model]) -> None:
    """Raises UnknownModelError, and ApiError for one that takes no prompts."""
    if model_id not in models:
        raise UnknownModelError(model_id)
    if models[model_id].max_model_len is None:
        raise ApiError(400, f"'{model_id}' is no chat model.", param="model")


def _describe(model_id: str, model: Model) -> dict[str, Any]:
    described = {"id": model_id, "object": "model", "created": model.created, "owned_by": "ghostwriter"}
    # As vLLM tells it: prompt and answer together; here a training example may have as many.
    return described if model.max_model_len is None else {**described, "max_model_len": model.max_model_len}
