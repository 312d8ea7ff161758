"""`GET /v1/models` and one model.

It knows no weights: the engine names the base models, the job store the fine-tuned ones.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter

from deployments.llm.errors import model_not_found


def models_router(list_models: Callable[[], Mapping[str, int]]) -> APIRouter:
    """Routes over a function that names every servable model with its creation time."""
    router = APIRouter()

    @router.get("/models")
    def get_models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(*item) for item in list_models().items()]}

    @router.get("/models/{model_id}")
    def get_model(model_id: str) -> dict[str, Any]:
        models = list_models()
        if model_id not in models:
            raise model_not_found(model_id)
        return _model(model_id, models[model_id])

    return router


def _model(model_id: str, created: int) -> dict[str, Any]:
    return {"id": model_id, "object": "model", "created": created, "owned_by": "ghostwriter"}
