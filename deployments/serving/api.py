"""The desk over HTTP, under `/api` with HTTP Basic, and `/health` for whoever starts it.

Handlers read the request, call and answer; they know no rule and no page.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException

from deployments.serving.audit import audit_post
from deployments.serving.desk import Desk
from deployments.serving.errors import (
    BadRequest,
    KnowledgeEmpty,
    NotFound,
    NothingAnswers,
    ServingError,
    Unavailable,
)
from deployments.serving.gate import add_gate
from deployments.serving.health import check_endpoints
from deployments.serving.lineage import read_graph
from deployments.serving.posts import describe_post, list_posts, record_feedback
from deployments.serving.writer import Event, Finished, Piece, Sources

NOTE_HEADER = "X-Ghostwriter-Note"
CHAMPION_IS_LOST = "The provider doesn't know the champion: posts are written with the base model."
_CODES: dict[type[ServingError], int] = {
    BadRequest: 400,
    NotFound: 404,
    KnowledgeEmpty: 409,
    NothingAnswers: 409,
    Unavailable: 503,
}
_ERROR_CODES: dict[type[Exception], str] = {
    KnowledgeEmpty: "knowledge_empty",
    NothingAnswers: "nothing_answers",  # `allow_unsupported` writes all the same
}
_LEDGER_DOWN = (
    "The ledger (Postgres) can't be reached or refused; see its log (`ghostwriter stack logs postgres`)."
)


def _read_user(request: Request) -> str:
    return request.state.user


User = Annotated[str, Depends(_read_user)]


class PostRequest(BaseModel):
    """What `POST /api/posts` takes."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    topic: str
    model: str = "champion"
    allow_unsupported: bool = False  # write although nothing in the knowledge answers the topic


class FeedbackRequest(BaseModel):
    """What `POST /api/posts/{id}/feedback` takes: 1 is a thumb up, -1 a thumb down."""

    model_config = ConfigDict(extra="forbid")

    rating: Literal[1, -1]


class SyncRequest(BaseModel):
    """What `POST /api/knowledge/sync` may take: digests from `removals` of `GET /api/knowledge`."""

    model_config = ConfigDict(extra="forbid")

    accept_removals: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field([], max_length=1000)


def create_api(desk: Desk, page_files: Iterable[str] = ()) -> FastAPI:
    """The application without its pages, behind its gate. Docs pages stay off: they would load foreign scripts."""
    app = FastAPI(title="Ghostwriter", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    add_gate(app, desk.sign_ins, page_files)
    app.add_exception_handler(ServingError, _answer_serving_error)
    app.add_exception_handler(SQLAlchemyError, lambda _request, _error: _error_answer(503, _LEDGER_DOWN))
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(StarletteHTTPException, _answer_http_error)
    app.include_router(_make_routes(desk))

    @app.get("/health")
    def health() -> dict[str, Any]:
        answer = {"status": "ready", "dependencies": check_endpoints(desk.endpoints)}
        return answer | ({"notes": [CHAMPION_IS_LOST]} if desk.writer.champion_is_lost else {})

    return app


def _make_routes(desk: Desk) -> APIRouter:
    router = APIRouter(prefix="/api")

    @router.post("/posts", response_model=None)
    def write_post(request: PostRequest, user: User, stream: bool = False) -> Response | dict[str, Any]:
        events = desk.writer.write(
            request.topic, request.model, user, allow_unsupported=request.allow_unsupported
        )
        if stream:
            # The first event is fetched here, so that an error before it still gets its own status code.
            return StreamingResponse(_stream_lines(next(events), events), media_type="application/x-ndjson")
        finished = next(event for event in events if isinstance(event, Finished))
        note = finished.model.note.encode("ascii", "replace").decode()  # a header holds no more
        headers = {NOTE_HEADER: note} if note else None
        return JSONResponse(describe_post(finished.post), headers=headers)

    @router.get("/posts")
    def get_posts(limit: Annotated[int, Query(ge=1, le=500)] = 50) -> list[dict[str, Any]]:
        with desk.sessions() as session:
            return list_posts(session, limit)

    @router.get("/posts/{post_id}/audit")
    def get_audit(post_id: str) -> dict[str, Any]:
        with desk.sessions() as session:
            return audit_post(session, desk.registry, post_id)

    @router.post("/posts/{post_id}/feedback", status_code=201)
    def give_feedback(post_id: str, request: FeedbackRequest, user: User) -> dict[str, Any]:
        with desk.sessions.begin() as session:
            record_feedback(session, post_id, request.rating, user)
        return {"post_id": post_id, "rating": request.rating}

    @router.get("/knowledge")
    def get_knowledge() -> dict[str, Any]:
        return desk.describe_knowledge()

    @router.post("/knowledge/sync", status_code=202)
    def start_sync(user: User, request: SyncRequest | None = None) -> dict[str, Any]:
        return {"run": desk.sync(user, accept=request.accept_removals if request else ())}

    @router.get("/lineage")
    def get_lineage() -> dict[str, Any]:
        with desk.sessions() as session:
            return read_graph(session)

    return router


def _stream_lines(first: Event, events: Iterator[Event]) -> Iterator[str]:
    try:
        for event in chain([first], events):
            yield json.dumps(_describe_event(event)) + "\n"
    except ServingError as error:
        yield json.dumps({"type": "error", "message": str(error)}) + "\n"


def _describe_event(event: Event) -> dict[str, Any]:
    match event:
        case Sources():
            model = event.model
            return {
                "type": "sources",
                "model": {"name": model.name, "version": model.version, "alias": model.alias},
                "note": model.note,
                "sources": [
                    {
                        "uri": hit.chunk.uri,
                        "title": hit.chunk.title,
                        "chunk_id": hit.chunk.id,
                        "score": hit.score,
                    }
                    for hit in event.chunks
                ],
            }
        case Piece():
            return {"type": "piece", "text": event.text}
        case Finished():
            return {"type": "post", **describe_post(event.post)}


def _error_answer(status: int, message: str, headers: Any = None, code: str = "") -> JSONResponse:
    return JSONResponse({"error": {"message": message} | ({"code": code} if code else {})}, status, headers)


def _answer_serving_error(_request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _CODES.items() if isinstance(error, kind)), 500)
    return _error_answer(status, str(error), None, _ERROR_CODES.get(type(error), ""))


def _answer_http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    return _error_answer(error.status_code, str(error.detail), error.headers)


def _answer_validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [
        f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}" for item in error.errors()
    ]
    return _error_answer(422, "; ".join(problems))
