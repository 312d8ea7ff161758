"""Signing in and out: one plain page of our own, so that nothing of the desk is handed out before.

It knows neither Gradio nor how passwords are checked.
"""

from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from deployments.serving.gate import LOGIN_PATH, LOGOUT_PATH, find_address
from deployments.serving.sign_in import SignIns, TooManyGuesses

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Ghostwriter: sign in</title><link rel="icon" href="data:,"><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 ui-sans-serif, system-ui, sans-serif; margin: 12vh auto; max-width: 22rem; padding: 0 1rem; }}
label, button {{ display: block; width: 100%; margin-top: 1rem; }}
input, button {{ box-sizing: border-box; width: 100%; padding: .6rem; font: inherit; border: 1px solid #8a97a6;
  border-radius: .5rem; }}
button {{ background: #0d7d72; border-color: #0d7d72; color: white; font-weight: 600; cursor: pointer; }}
[role=alert] {{ border-left: 3px solid #d6454b; padding-left: .7rem; }}
</style></head><body><h1>Ghostwriter</h1>
<p>Sign in as <b>{user}</b>. <code>make up</code> names the file with the password.</p>{problem}
<form method="post"><label>username<input name="username" autocomplete="username" autofocus required></label>
<label>password<input name="password" type="password" autocomplete="current-password" required></label>
<button>Login</button></form></body></html>"""


def make_login_routes(sign_ins: SignIns) -> APIRouter:
    """The page, and what its form and the way out do."""
    router = APIRouter(include_in_schema=False)

    def show_page(problem: str = "", status: int = 200) -> HTMLResponse:
        box = f'<p role="alert">{escape(problem)}</p>' if problem else ""
        page = _PAGE.format(user=escape(sign_ins.user), problem=box)
        return HTMLResponse(page, status, {"Cache-Control": "no-store"})

    @router.get(LOGIN_PATH)
    def show_login() -> HTMLResponse:
        return show_page()

    @router.post(LOGIN_PATH)
    async def sign_in(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=2) as form:
            user, password = str(form.get("username", "")).strip(), str(form.get("password", ""))
        try:
            right = sign_ins.check(user, password, find_address(request))
        except TooManyGuesses as error:
            answer = show_page(str(error), 429)
            answer.headers["Retry-After"] = str(error.seconds)
            return answer
        if not right:
            return show_page("Incorrect Credentials", 401)
        moved = RedirectResponse("./", 303)
        secure = "https" in (request.url.scheme, request.headers.get("X-Forwarded-Proto"))
        token = sign_ins.open_session()
        moved.set_cookie(sign_ins.cookie, token, httponly=True, samesite="lax", secure=secure)
        return moved

    @router.get(LOGOUT_PATH)
    @router.post(LOGOUT_PATH)
    def sign_out(request: Request) -> Response:
        sign_ins.close_session(request.cookies.get(sign_ins.cookie))
        moved = RedirectResponse(LOGIN_PATH.lstrip("/"), 303)
        moved.delete_cookie(sign_ins.cookie)
        return moved

    return router
