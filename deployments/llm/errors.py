"""Errors in OpenAI's shape, and the mapping of engine errors to them.

It knows no route.
"""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match

from deployments.llm.disk import DISK_FULL, DISK_FULL_MESSAGE, is_full_disk
from deployments.llm.engines.ports import (
    ContextTooLongError,
    EngineError,
    NotReadyError,
    QueueFullError,
    UnknownModelError,
    UnsupportedError,
)
from deployments.llm.records import UnreadableRecordError
from deployments.llm.validation import describe_invalid
from deployments.llm.work import RequestTimeoutError, StoppingError
from shared.admission import Refusal

log = logging.getLogger(__name__)

_REFUSAL_CODES: Final = {
    401: ("invalid_api_key", "invalid_request_error"),
    413: ("request_too_large", "invalid_request_error"),
    503: ("server_stopping", "server_error"),
}


class ApiError(Exception):
    """What a client is told."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        retry = {"Retry-After": "2"} if status in (429, 503) else {}
        self.headers = {**retry, **(headers or {})}
        self.status, self.param, self.code, self.kind = status, param, code, kind

    @property
    def body(self) -> dict[str, Any]:
        """The error as OpenAI's clients read it."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.code}
        # Half a surrogate pair in what a client sent can't be sent back.
        return {
            "error": {
                name: value.encode(errors="replace").decode() if value else value
                for name, value in error.items()
            }
        }


class CodedRefusal(Refusal):
    """A refusal whose status alone does not say what is wrong."""

    def __init__(
        self, status: int, message: str, *, code: str, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, headers)
        self.code, self.kind = code, kind


def model_not_found(model: str, reason: str | None = None) -> ApiError:
    """No such model here, or none that can be served, for a reason in words."""
    message = reason or f"The model '{model}' does not exist."
    return ApiError(404, message, param="model", code="model_not_found")


def translate(error: EngineError, prompt: str = "messages") -> ApiError:
    """An engine's error as a client sees it; `prompt` is the parameter that may be too long."""
    if isinstance(error, UnknownModelError):
        return model_not_found(str(error))
    if isinstance(error, ContextTooLongError):
        return ApiError(400, str(error), param=prompt, code="context_length_exceeded")
    if isinstance(error, UnsupportedError):
        return ApiError(400, str(error), param=error.param, code="unsupported_value")
    if isinstance(error, QueueFullError):
        headers = _describe_retry(error.retry_after)
        return ApiError(429, str(error), code="rate_limit_exceeded", kind="requests", headers=headers)
    if isinstance(error, RequestTimeoutError):
        # OpenAI's clients would ask the same again, and wait as long for nothing.
        headers = {"x-should-retry": "false"}
        return ApiError(504, str(error), code="request_timeout", kind="server_error", headers=headers)
    if isinstance(error, StoppingError):
        return ApiError(503, str(error), code="server_stopping", kind="server_error")
    if isinstance(error, NotReadyError):
        headers = _describe_retry(error.retry_after)
        return ApiError(503, str(error), code="model_loading", kind="server_error", headers=headers)
    return ApiError(500, str(error), code="engine_error", kind="server_error")


def _describe_retry(seconds: int | None) -> dict[str, str]:
    return {"Retry-After": str(seconds)} if seconds else {}


def answer_refusal(refusal: Refusal) -> JSONResponse:
    """A request that was turned away before it was read."""
    code, kind = _REFUSAL_CODES.get(refusal.status, (None, "invalid_request_error"))
    if isinstance(refusal, CodedRefusal):
        code, kind = refusal.code, refusal.kind
    error = ApiError(refusal.status, str(refusal), code=code, kind=kind)
    return JSONResponse(error.body, status_code=error.status, headers=error.headers)


def answer_abandoned(error: Exception) -> JSONResponse:
    """A request that was abandoned before it was read to its end."""
    failure = translate(error if isinstance(error, EngineError) else StoppingError(str(error)))
    return JSONResponse(failure.body, status_code=failure.status, headers=failure.headers)


def install_error_handlers(app: FastAPI, explain_absence: Callable[[str], str | None]) -> None:
    """Every error leaves in OpenAI's shape, those of the framework included.

    `explain_absence` says why a model that there is can't be served, and blocks.
    """

    @app.exception_handler(ApiError)
    async def answer_api_error(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, status_code=error.status, headers=error.headers)

    @app.exception_handler(EngineError)
    async def answer_engine_error(request: Request, error: EngineError) -> JSONResponse:
        return await answer_api_error(request, translate(error))

    @app.exception_handler(UnknownModelError)
    async def answer_unknown_model(request: Request, error: UnknownModelError) -> JSONResponse:
        reason = await run_in_threadpool(explain_absence, str(error))
        return await answer_api_error(request, model_not_found(str(error), reason))

    @app.exception_handler(OSError)
    async def answer_full_disk(request: Request, error: OSError) -> JSONResponse:
        if not is_full_disk(error):
            raise error
        log.error("%s %s: %s", request.method, quote(request.url.path), error)
        return await answer_api_error(
            request, ApiError(507, DISK_FULL_MESSAGE, code=DISK_FULL, kind="server_error")
        )

    @app.exception_handler(UnreadableRecordError)
    async def answer_unreadable_record(request: Request, error: UnreadableRecordError) -> JSONResponse:
        log.error("%s %s: %s", request.method, quote(request.url.path), error)
        name = f"{error.path.parent.name}/{error.path.name}"
        message = f"The record {name} can't be read. Nothing was deleted; the server's log says what to do."
        failure = ApiError(500, message, code="unreadable_record", kind="server_error")
        return await answer_api_error(request, failure)

    @app.exception_handler(RequestValidationError)
    async def answer_validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        invalid = describe_invalid(error.errors(), error.body)
        failure = ApiError(400, invalid.message, param=invalid.param, code=invalid.code)
        return await answer_api_error(request, failure)

    @app.exception_handler(HTTPException)
    async def answer_http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # the framework could not read the body
            is_form = request.headers.get("Content-Type", "").startswith("multipart/")
            wanted = "a form" if is_form else "JSON in UTF-8, nested and long within reason"
            return JSONResponse(ApiError(400, f"{error.detail}: it must be {wanted}.").body, status_code=400)
        message = f"{HTTPStatus(error.status_code).phrase}: {request.method} {request.url.path}"
        headers = {"Allow": _list_methods(request)} if error.status_code == 405 else error.headers
        return JSONResponse(ApiError(error.status_code, message).body, error.status_code, headers)

    @app.exception_handler(Exception)
    async def answer_unexpected_error(_: Request, error: Exception) -> JSONResponse:
        body = ApiError(500, "The server had an error; see its log.", kind="server_error").body
        return JSONResponse(body, status_code=500)


def _list_methods(request: Request) -> str:
    """What may be asked of a path; the framework tells the methods of its first route alone."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
    return ", ".join(sorted({method for route in routes for method in route.methods or ()}))
