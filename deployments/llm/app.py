"""The HTTP application: routes over the engines and the stores in one folder.

It knows no torch and reads no environment.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI

from deployments.llm.admittance import build_check, build_rules
from deployments.llm.api_page import describe_api
from deployments.llm.engines.roles import Engines
from deployments.llm.engines.weights import name_base
from deployments.llm.errors import answer_abandoned, answer_refusal, install_error_handlers
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.guards.guarded import guard_engines
from deployments.llm.half_requests import AnswerHalfRequests
from deployments.llm.health import health_router
from deployments.llm.keyring import Keyring
from deployments.llm.metrics import build_metrics
from deployments.llm.quotas import Quotas
from deployments.llm.request_log import log_request
from deployments.llm.request_notes import NoteRequests
from deployments.llm.routes.chat import chat_router
from deployments.llm.routes.completions import completions_router
from deployments.llm.routes.embeddings import embeddings_router
from deployments.llm.routes.files import files_router
from deployments.llm.routes.fine_tuning import fine_tuning_router
from deployments.llm.routes.images import images_router
from deployments.llm.routes.metrics import metrics_router
from deployments.llm.routes.models import models_router
from deployments.llm.routes.rerank import rerank_router
from deployments.llm.routes.responses import responses_router
from deployments.llm.routes.tokenize import tokenize_router
from deployments.llm.served_models import ServedModels
from deployments.llm.server import Running
from deployments.llm.settings import LlmSettings
from deployments.llm.upkeep import keep_up
from deployments.llm.uploads import FileStore
from deployments.llm.work import build_floors, count_threads
from shared.admission import Admission


def create_app(
    settings: LlmSettings,
    engines: Engines,
    *,
    api_key: str,
    files: FileStore,
    jobs: JobStore,
    runner: JobRunner,
    keyring: Keyring | None = None,
    running: Running | None = None,
    state: Path | None = None,
) -> FastAPI:
    """The application; an empty key leaves it open. Models load in the background once it runs.

    `keyring` is for installations with several keys, `running` for whoever stops the server, and `state` is the folder
    in which is kept what outlives a restart.
    """
    keyring, running = keyring or Keyring(api_key), running or Running()
    quotas = Quotas(state / "usage.json" if state else None)
    floors = build_floors(settings)
    metrics = build_metrics(floors, running, jobs)
    engines = guard_engines(engines, floors, metrics)
    models = ServedModels(engines, jobs, name_base(settings.llm_base_model))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.register()
        threading.Thread(target=engines.load, name="loader", daemon=True).start()
        runner.start()
        # Each request that an engine works for has a thread; those that only read a file must find one too.
        to_thread.current_default_thread_limiter().total_tokens = count_threads(settings)
        upkeep = asyncio.create_task(keep_up(floors, quotas))
        try:
            yield
            runner.stop()
        finally:
            upkeep.cancel()
            quotas.save()
            engines.close()

    app = FastAPI(
        title="Ghostwriter LLM", lifespan=lifespan, docs_url=None, redoc_url=None
    )  # they need scripts of others
    app.openapi = describe_api(app, open_paths=("/health", "/ready"))  # type: ignore[method-assign]
    app.add_middleware(
        Admission,
        rules=build_rules(settings),
        check=build_check(
            keyring,
            quotas,
            is_stopping=lambda: running.stopping,
            is_crowded=lambda: len(running.requests) > settings.most_requests,
        ),
        answer=answer_refusal,
    )
    app.add_middleware(AnswerHalfRequests, answer=answer_abandoned)
    # The last one is the outermost: it tells of refusals too.
    app.add_middleware(NoteRequests, tell=[log_request, metrics.count_request], running=running.requests)
    install_error_handlers(app, models.explain_absence)
    for router in (
        models_router(models.list, models.delete),
        chat_router(engines.chat),
        completions_router(engines.chat, engines.scoring, models.list),
        responses_router(engines.chat),
        embeddings_router(engines.embedding),
        images_router(),
        files_router(files, settings.llm_max_file_bytes),
        fine_tuning_router(jobs, files, runner, engines.chat.chat_model),
    ):
        app.include_router(router, prefix="/v1")
    app.include_router(tokenize_router(engines.chat, models.list))
    # vLLM's clients ask without a version, Cohere's for the second.
    for prefix in ("/v1", "", "/v2"):
        app.include_router(rerank_router(engines.rerank), prefix=prefix)

    app.include_router(health_router(engines, jobs, runner, state, lambda: running.stopping))
    app.include_router(metrics_router(metrics))
    return app
