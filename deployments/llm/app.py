"""The HTTP application: routes over an engine and the stores in one folder.

It knows no torch and reads no environment.
"""

import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection

from deployments.llm.api_page import describe_api
from deployments.llm.engines.roles import Engines
from deployments.llm.errors import answer_refusal, install_error_handlers
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.request_log import RequestLog
from deployments.llm.routes.chat import chat_router
from deployments.llm.routes.completions import completions_router
from deployments.llm.routes.embeddings import embeddings_router
from deployments.llm.routes.files import files_router
from deployments.llm.routes.fine_tuning import fine_tuning_router
from deployments.llm.routes.images import images_router
from deployments.llm.routes.models import Model, models_router
from deployments.llm.routes.rerank import rerank_router
from deployments.llm.routes.responses import responses_router
from deployments.llm.routes.tokenize import tokenize_router
from deployments.llm.settings import LlmSettings
from deployments.llm.uploads import FileStore
from shared import contracts
from shared.admission import Admission, Refusal, Rule, is_secret

log = logging.getLogger(__name__)

_FORM_BYTES: Final = 64 * 1024
"""What an upload's form may add to the file itself."""


def create_app(
    settings: LlmSettings,
    engines: Engines,
    *,
    api_key: str,
    files: FileStore,
    jobs: JobStore,
    runner: JobRunner,
) -> FastAPI:
    """The application; an empty key leaves it open. Models load in the background once it runs."""
    started = int(time.time())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        for model_id, adapter in jobs.adapters().items():
            engines.chat.register_adapter(model_id, adapter)
        threading.Thread(target=engines.load, name="loader", daemon=True).start()
        runner.start()
        try:
            yield
            runner.stop()
        finally:
            engines.close()

    async def check_key(connection: HTTPConnection) -> None:
        scheme, _, key = connection.headers.get("Authorization", "").partition(" ")
        # Latin-1 gives back the bytes as they were sent.
        if api_key and not (scheme.lower() == "bearer" and is_secret(key.encode("latin-1"), api_key)):
            raise Refusal(401, "Incorrect API key: send `Authorization: Bearer <key>`.")

    def list_models() -> Mapping[str, Model]:
        others = (*engines.embedding.models, engines.rerank.rerank_model, contracts.LOCAL_IMAGE_MODEL)
        tuned = jobs.fine_tuned_models().items()
        return {
            engines.chat.chat_model: Model(started, engines.chat.max_model_len),
            **dict.fromkeys(others, Model(started)),
            **{model_id: Model(job.created_at, engines.chat.max_model_len) for model_id, job in tuned},
        }

    def delete_model(model_id: str) -> bool:
        deleted = jobs.delete_model(model_id)
        if deleted:
            engines.chat.forget_adapter(model_id)
        return deleted

    app = FastAPI(
        title="Ghostwriter LLM", lifespan=lifespan, docs_url=None, redoc_url=None
    )  # they need scripts of others
    app.openapi = describe_api(app, open_paths=("/health", "/ready"))  # type: ignore[method-assign]
    app.add_middleware(
        Admission,
        rules={
            "/": Rule(settings.llm_max_body_bytes),
            "/health": Rule(0, open=True),
            "/v1/files": Rule(settings.llm_max_file_bytes + _FORM_BYTES),
        },
        check=check_key,
        answer=answer_refusal,
    )
    app.add_middleware(RequestLog)  # the last one is the outermost: it logs refusals too
    install_error_handlers(app)
    for router in (
        models_router(list_models, delete_model),
        chat_router(engines.chat),
        completions_router(engines.chat, engines.scoring, list_models),
        responses_router(engines.chat),
        embeddings_router(engines.embedding),
        images_router(),
        files_router(files, settings.llm_max_file_bytes),
        fine_tuning_router(jobs, files, runner, engines.chat.chat_model),
    ):
        app.include_router(router, prefix="/v1")
    app.include_router(tokenize_router(engines.chat, list_models))
    # vLLM's clients ask without a version, Cohere's for the second.
    for prefix in ("/v1", "", "/v2"):
        app.include_router(rerank_router(engines.rerank), prefix=prefix)

    @app.get("/health")
    def get_health() -> JSONResponse:
        if engines.ready:
            unreadable = {"unreadable": list(jobs.unreadable)} if jobs.unreadable else {}
            return JSONResponse({"status": "ok", "fine_tuning": jobs.count_by_status(), **unreadable})
        if engines.failure:
            return JSONResponse({"status": "failed", "reason": engines.failure}, status_code=503)
        return JSONResponse({"status": "loading"}, status_code=503)

    return app
