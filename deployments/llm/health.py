"""Whether the process lives (`/health`) and whether it can do its work (`/ready`); both open, neither tells a secret.

It knows no model.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from deployments.llm.engines.roles import Engines
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore

_LEAST_FREE: Final = 64 * 1024 * 1024
"""Bytes; a job's checkpoint of the bundled model has some 30 MB."""


def health_router(
    engines: Engines,
    jobs: JobStore,
    runner: JobRunner,
    state: Path | None,
    is_stopping: Callable[[], bool],
) -> APIRouter:
    """Both routes; `state` is the folder that must be writable, where there is one."""
    router = APIRouter()

    @router.get("/health")
    async def get_health() -> dict[str, str]:
        if is_stopping():
            return {"status": "stopping"}
        if engines.failure:
            return {"status": "failed", "reason": engines.failure}
        return {"status": "ok" if engines.ready else "loading"}

    @router.get("/ready")
    def get_ready() -> JSONResponse:
        reasons = find_reasons(engines, runner, is_stopping())
        if state and (problem := find_disk_problem(state)):
            reasons.append(problem)
        body: dict[str, Any] = {"status": "not ready" if reasons else "ready", "reasons": reasons}
        body["fine_tuning"] = jobs.count_by_status()
        if jobs.unreadable:
            body["unreadable"] = list(jobs.unreadable)
        return JSONResponse(body, status_code=503 if reasons else 200)

    return router


def find_reasons(engines: Engines, runner: JobRunner, stopping: bool) -> list[str]:
    """Why the server can't do its work now; empty where it can."""
    reasons = []
    if stopping:
        reasons.append("the server is stopping")
    if engines.failure:
        reasons.append(f"a model could not be loaded: {engines.failure}")
    elif not engines.ready:
        reasons.append("the models are loading")
    if not runner.alive:
        reasons.append("fine-tuning jobs are not worked on")
    return reasons


def find_disk_problem(folder: Path) -> str | None:
    """Why nothing can be kept in the folder; None where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"the state folder takes no file ({os.strerror(error.errno or 0)})"
    if free < _LEAST_FREE:
        return f"the disk of the state folder has {free // 2**20} MB left"
    return None
