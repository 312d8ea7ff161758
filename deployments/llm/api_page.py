"""The OpenAPI description of the server: FastAPI's own, with the errors that are really answered and the key.

It knows no route: it goes over those that the application has.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

_ERRORS: Final = {
    "400": "What was sent can't be done; `param` names the parameter.",
    "401": "The key is missing or wrong.",
    "403": "The key, or what was asked about, does not allow it.",
    "404": "There is no such model, file, job or path.",
    "405": "The path has no such method.",
    "413": "The body is too long.",
    "429": "Too much is going on; `Retry-After` tells when to try again.",
    "500": "The server had an error, which its log tells.",
    "503": "The models are loading, or the server stops.",
    "504": "The answer took longer than may be.",
    "507": "The disk of the server's state folder is full.",
}
_ANSWER: Final = {"application/json": {"type": "object"}, "text/event-stream": {"type": "string"}}
_BYTES: Final = {"application/octet-stream": {"type": "string", "format": "binary"}}
_CONTENT: Final = {
    "/v1/chat/completions": _ANSWER,
    "/v1/completions": _ANSWER,
    "/v1/responses": _ANSWER,
    "/v1/files/{file_id}/content": _BYTES,
    "/metrics": {"text/plain": {"type": "string"}},
}
"""What is not always JSON."""
_REFERENCE: Final = {"$ref": "#/components/schemas/Error"}


def describe_api(app: FastAPI, open_paths: Collection[str]) -> Callable[[], dict[str, Any]]:
    """What `app.openapi` is to be; `open_paths` need no key."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            page = get_openapi(
                title=app.title, version=app.version, routes=app.routes, servers=[{"url": "/"}]
            )
            app.openapi_schema = complete_page(page, open_paths)
        return app.openapi_schema

    return describe


def complete_page(page: dict[str, Any], open_paths: Collection[str]) -> dict[str, Any]:
    """The page with error answers, streams and the key; it is changed in place."""
    components = page.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Error"] = _describe_error()
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in page["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]
            answers.pop("422", None)
            for status, words in _ERRORS.items():
                answer = {"description": words, "content": {"application/json": {"schema": _REFERENCE}}}
                answers.setdefault(status, answer)
            operation["security"] = [] if path in open_paths else [{"key": []}]
            if kinds := _CONTENT.get(path):
                answers["200"]["content"] = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return page


def _describe_error() -> dict[str, Any]:
    text = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    fields = {"message": {"type": "string"}, "type": {"type": "string"}, "param": text, "code": text}
    error = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "object", "properties": {"error": error}, "required": ["error"]}
