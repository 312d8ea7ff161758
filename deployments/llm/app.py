"""The HTTP application: routes over an engine and the stores in one folder.

It knows no torch and reads no environment.
"""

import hmac
import logging
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from deployments.llm.engine.port import Engine
from deployments.llm.errors import ApiError, install_error_handlers
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.request_log import RequestLog
from deployments.llm.routes.chat import chat_router
from deployments.llm.routes.embeddings import embeddings_router
from deployments.llm.routes.files import files_router
from deployments.llm.routes.fine_tuning import fine_tuning_router
from deployments.llm.routes.images import images_router
from deployments.llm.routes.models import models_router
from deployments.llm.settings import LlmSettings
from deployments.llm.uploads import FileStore
from shared import contracts

log = logging.getLogger(__name__)


def create_app(
    settings: LlmSettings,
    engine: Engine,
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
        for model_id, job in jobs.fine_tuned_models().items():
            engine.register_adapter(model_id, jobs.adapter_dir(job.id))
        threading.Thread(target=engine.load, name="loader", daemon=True).start()
        runner.start()
        try:
            yield
            runner.stop()
        finally:
            engine.close()

    def check_key(request: Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if api_key and not (
            scheme.lower() == "bearer" and hmac.compare_digest(key.encode(), api_key.encode())
        ):
            message = "Incorrect API key: send `Authorization: Bearer <key>`."
            raise ApiError(401, message, code="invalid_api_key")

    def list_models() -> Mapping[str, int]:
        base = (engine.chat_model, engine.embedding_model, contracts.LOCAL_IMAGE_MODEL)
        tuned = {model_id: job.created_at for model_id, job in jobs.fine_tuned_models().items()}
        return {**dict.fromkeys(base, started), **tuned}

    app = FastAPI(title="Ghostwriter LLM", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(RequestLog)
    install_error_handlers(app)
    for router in (
        models_router(list_models),
        chat_router(engine),
        embeddings_router(engine),
        images_router(),
        files_router(files, settings.llm_max_file_bytes),
        fine_tuning_router(jobs, files, runner, engine.chat_model),
    ):
        app.include_router(router, prefix="/v1", dependencies=[Depends(check_key)])

    @app.get("/health")
    def get_health() -> JSONResponse:
        if engine.ready:
            return JSONResponse({"status": "ok", "fine_tuning": jobs.count_by_status()})
        if engine.failure:
            return JSONResponse({"status": "failed", "reason": engine.failure}, status_code=503)
        return JSONResponse({"status": "loading"}, status_code=503)

    return app
