"""Who is let in, how much of a body is asked for, and what a refusal looks like, seen from outside as ASGI."""

import json

import pytest
from fastapi import FastAPI, Request
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.routing import Match, Route

from shared.admission import (
    Admission,
    ExposedError,
    Refusal,
    Rule,
    check_exposure,
    find_route_path,
)
from tests.asgi_call import Call

KEY = "käse"
RULES = {
    "/": Rule(max_bytes=100),
    "/health": Rule(max_bytes=0, open=True),
    "/files": Rule(max_bytes=1000),
    "/files/notes": Rule(max_bytes=10),
}


async def check(connection: HTTPConnection) -> None:
    if connection.headers.get("X-Key", "").encode("latin-1") != KEY.encode():
        raise Refusal(401, "Send the key.", {"WWW-Authenticate": "Key"})
    connection.state.user = "anna"


def answer(refusal: Refusal) -> JSONResponse:
    return JSONResponse({"refused": str(refusal)}, status_code=refusal.status)


def build(**middleware):
    app = FastAPI()

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def echo(path: str, request: Request):
        return {"read": len(await request.body()), "user": getattr(request.state, "user", None)}

    return Admission(app, **{"rules": RULES, "check": check, "answer": answer, **middleware})


SIGNED_IN = {"X-Key": KEY.encode()}
CHUNKED = {**SIGNED_IN, "Transfer-Encoding": b"chunked"}


def test_without_the_key_not_a_byte_is_asked_for():
    for key in (b"", b"k", b"wrong", KEY.encode() + b"x", b"k\xe4se", b"\xff"):
        call = Call(build(), "/x", [b"a" * 10] * 4, {"X-Key": key, "Transfer-Encoding": b"chunked"})
        assert (call.status, call.taken) == (401, 0)
        assert json.loads(call.body) == {"refused": "Send the key."}
        assert call.headers["www-authenticate"] == "Key"
        assert call.headers["connection"] == "close"


def test_who_is_let_in_is_known_to_the_request():
    call = Call(build(), "/x", [b"a" * 50, b"a" * 50], SIGNED_IN)
    assert (call.status, json.loads(call.body)) == (200, {"read": 100, "user": "anna"})


def test_an_open_path_asks_nobody_and_what_only_begins_like_it_does():
    assert Call(build(), "/health").status == 200
    assert Call(build(), "/health/deep").status == 200
    assert Call(build(), "/healthy").status == 401
    assert Call(build(), "//health").status == 401
    assert Call(build(), "*").status == 401
    assert "connection" not in Call(build(), "/healthy").headers  # there is no body to stop


def test_a_rule_holds_for_the_path_that_the_router_sees():
    rules = {"/": Rule(10, open=True), "/api": Rule(10)}
    assert Call(build(rules=rules), "/desk/api/x", root_path="/desk").status == 401
    assert Call(build(rules=rules), "/api/x", root_path="/a").status == 401
    assert Call(build(rules=rules), "/other").status == 200


@pytest.mark.parametrize("root_path", ["", "/", "/desk", "/desk/", "/a", "/desk/api/x"])
@pytest.mark.parametrize(
    "path", ["/desk/api/x", "/desk", "/desk/", "/deskapi", "/a/desk/a", "/", "", "//desk/x", "*"]
)
def test_the_path_of_a_rule_is_the_one_that_a_route_is_matched_by(path, root_path):
    scope = {"type": "http", "path": path, "root_path": root_path, "method": "GET"}
    match, found = Route("/{rest:path}", answer).matches(scope)
    rest = "/" + found["path_params"]["rest"] if match is Match.FULL else None
    ours = find_route_path(scope)
    assert (ours if ours.startswith("/") else None) == rest


@pytest.mark.parametrize(
    ("path", "limit"), [("/x", 100), ("/files", 1000), ("/files/a", 1000), ("/files/notes", 10)]
)
def test_the_longest_rule_that_fits_limits_the_body(path, limit):
    declared = {**SIGNED_IN, "Content-Length": str(limit).encode()}
    assert Call(build(), path, [b"a" * limit], declared).status == 200
    declared["Content-Length"] = str(limit + 1).encode()
    call = Call(build(), path, [b"a" * (limit + 1)], declared)
    assert (call.status, call.taken, call.headers["connection"]) == (413, 0, "close")
    assert str(limit) in json.loads(call.body)["refused"]


def test_a_length_beyond_all_numbers_is_too_long():
    call = Call(build(), "/x", [b"a"], {**SIGNED_IN, "Content-Length": b"9" * 5000})
    assert (call.status, call.taken) == (413, 0)


def test_a_body_without_a_length_is_read_to_the_limit_and_no_further():
    chunks = [b"a" * 40] * 50
    call = Call(build(), "/x", chunks, CHUNKED)
    assert (call.status, call.taken, call.headers["connection"]) == (413, 120, "close")
    assert "100 bytes" in json.loads(call.body)["refused"]
    assert Call(build(), "/x", [b"a" * 40, b"a" * 60], CHUNKED).status == 200


@pytest.mark.parametrize("length", [b"5", b"-1", b"", b"\xb2", b"1_0", b"+5", b"none"])
def test_a_length_that_lies_is_counted(length):
    call = Call(build(), "/x", [b"a" * 40] * 50, {**SIGNED_IN, "Content-Length": length})
    assert (call.status, call.taken) == (413, 120)


def test_an_application_that_breaks_on_half_a_body_is_not_heard_of():
    async def breaks(scope, receive, send):
        while (await receive())["type"] == "http.request":
            pass
        raise RuntimeError("the client went away")

    app = Admission(breaks, rules=RULES, check=check, answer=answer)
    call = Call(app, "/x", [b"a" * 101], CHUNKED)
    assert call.status == 413


def test_an_application_that_breaks_for_another_reason_is():
    async def breaks(scope, receive, send):
        await receive()
        raise RuntimeError("a fault of its own")

    with pytest.raises(RuntimeError, match="of its own"):
        Call(Admission(breaks, rules=RULES, check=check, answer=answer), "/x", [b"a"], CHUNKED)


def test_an_answer_that_has_begun_is_not_answered_again():
    async def early(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] == "http.request":
            pass
        await send({"type": "http.response.body", "body": b"ended"})

    call = Call(Admission(early, rules=RULES, check=check, answer=answer), "/x", [b"a" * 60] * 9, CHUNKED)
    assert (call.status, call.body, call.taken) == (200, b"ended", 120)


def test_a_web_socket_without_the_key_is_closed():
    reached = []

    async def app(scope, receive, send):
        reached.append(scope["path"])

    guarded = Admission(app, rules=RULES, check=check, answer=answer)
    assert Call(guarded, "/x", kind="websocket").sent == [
        {"type": "websocket.close", "code": 1008, "reason": ""}
    ]
    Call(guarded, "/y", headers=SIGNED_IN, kind="websocket")
    assert reached == ["/y"]


def test_what_is_no_request_reaches_the_application():
    reached = []

    async def app(scope, receive, send):
        reached.append(scope["type"])

    Call(Admission(app, rules=RULES, check=check, answer=answer), "/x", kind="lifespan")
    assert reached == ["lifespan"]


def test_rules_that_leave_paths_out_are_refused():
    with pytest.raises(ValueError, match='"/"'):
        build(rules={"/api": Rule(1)})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_without_a_secret_a_server_may_listen_on_this_machine(host):
    check_exposure(host, "", "set it")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.5", "my-host", "localhost.example.org"])
def test_without_a_secret_a_server_may_not_listen_elsewhere(host):
    for secret in ("", "  \n"):
        with pytest.raises(ExposedError, match="set it"):
            check_exposure(host, secret, "set it")
    check_exposure(host, "secret", "set it")
