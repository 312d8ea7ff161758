"""The gate before every route: who is signed in, where a request comes from, and which of Gradio's routes are used.

What isn't named here is refused, so that a Gradio upgrade opens nothing. It knows no page.
"""

import re
from collections.abc import Iterable
from typing import Final

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.serving.sign_in import SignIns, TooManyGuesses
from shared.admission import Admission, Refusal, Rule

LOGIN_PATH, LOGOUT_PATH, STATIC_PATH = "/login", "/logout", "/desk/static"
API_BYTES, LOGIN_BYTES, PAGE_BYTES = 64 * 1024, 4 * 1024, 256 * 1024  # the longest bodies
_RULES: Final = {"/": Rule(PAGE_BYTES), "/api": Rule(API_BYTES), LOGIN_PATH: Rule(LOGIN_BYTES)}
_OPEN: Final = ("/health", LOGIN_PATH)
_SAFE: Final = ("GET", "HEAD", "OPTIONS")
# Of Gradio's routes, those that its pages ask for. Not here: files, uploads, proxies, streams, servers of components.
PAGE_ROUTES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        "(GET|HEAD) /", "GET /(assets|static)/.+", "GET /(theme.css|favicon.ico)",
        r"GET /gradio_api/(queue/data|heartbeat/\w+)", "POST /gradio_api/(queue/join|cancel|reset)",
        rf"GET {STATIC_PATH}/[\w.-]+", f"(GET|POST) {LOGOUT_PATH}",
    )
)  # fmt: skip
# What pages may load, should something foreign ever get into one: nothing from elsewhere.
_CONTENT_POLICY: Final = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)


def add_gate(app: FastAPI, sign_ins: SignIns, files: Iterable[str] = ()) -> None:
    """Put the gate before every route of the application, and the content policy on every answer."""
    app.add_middleware(Admission, rules=_RULES, check=Gate(sign_ins, files).check, answer=_word_refusal)
    app.add_middleware(_ContentPolicy)


class Gate:
    """Lets a request in or raises Refusal; `files` are those that the pages themselves show, such as icons."""

    def __init__(self, sign_ins: SignIns, files: Iterable[str] = ()) -> None:
        self._sign_ins = sign_ins
        self._files = frozenset(f"GET /gradio_api/file={path}" for path in files)

    async def check(self, connection: HTTPConnection) -> None:
        """Leaves the user in the connection's state."""
        path, method = connection.scope["path"], connection.scope.get("method", "")
        if (method not in _SAFE or path == LOGOUT_PATH) and not _comes_from_here(connection.headers):
            raise Refusal(
                403, "This request comes from another page than the desk's: open the desk and do it there."
            )
        # Gradio answers a foreign page that asks for it with leave to read; none does where it sees no Origin.
        connection.scope["headers"] = [item for item in connection.scope["headers"] if item[0] != b"origin"]
        if path in _OPEN:
            return
        if path == "/api" or path.startswith("/api/"):
            self._check_basic(connection)
        elif self._sign_ins.find_user(connection.cookies.get(self._sign_ins.cookie)) is None:
            if path == "/" and method in _SAFE:
                raise Refusal(303, "Sign in first.", {"Location": LOGIN_PATH.lstrip("/")})
            raise Refusal(401, "You are not signed in, or no longer: load the page again and sign in.")
        elif not self._is_used(f"{method} {path}"):
            raise Refusal(404, "There is nothing here.")
        connection.state.user = self._sign_ins.user

    def _check_basic(self, connection: HTTPConnection) -> None:
        try:
            if self._sign_ins.check_basic(
                connection.headers.get("Authorization", ""), find_address(connection)
            ):
                return
        except TooManyGuesses as error:
            raise Refusal(429, str(error), {"Retry-After": str(error.seconds)}) from error
        message = f"Wrong or no user and password: sign in as {self._sign_ins.user!r} (HTTP Basic)."
        raise Refusal(401, message, {"WWW-Authenticate": 'Basic realm="Ghostwriter", charset="UTF-8"'})

    def _is_used(self, request: str) -> bool:
        return request in self._files or any(pattern.fullmatch(request) for pattern in PAGE_ROUTES)


def find_address(connection: HTTPConnection) -> str:
    """Whose guesses are counted together."""
    return connection.client.host if connection.client else ""


def _comes_from_here(headers: Headers) -> bool:
    """Browsers say from where; over plain HTTP to another machine, older ways alone. Programs say nothing."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("Origin")
    return origin is None or origin.partition("://")[2].lower() == headers.get("Host", "").lower()


def _word_refusal(refusal: Refusal) -> Response:
    # `error` is what our clients read, `detail` what Gradio's pages do.
    return JSONResponse({"error": {"message": str(refusal)}, "detail": str(refusal)}, refusal.status)


class _ContentPolicy:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def write(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = _CONTENT_POLICY
            await send(message)

        await self._app(scope, receive, write if scope["type"] == "http" else send)
