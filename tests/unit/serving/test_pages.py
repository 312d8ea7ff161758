"""The really mounted pages: what forged messages to them, and to Gradio's own routes, can reach."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from gradio.routes import App
from starlette.routing import Mount

from deployments.serving.app import create_app
from deployments.serving.sign_in import GUESSES
from tests.fake_desk import PASSWORD, FakeWorld, add_model

SECRET = "weaviate-key-that-must-not-leave"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def client(world: FakeWorld, cache: Path) -> Iterator[TestClient]:
    add_model(world, 1, "champion")
    with TestClient(create_app(world.desk), base_url="http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / "weaviate_api_key"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def sign_in(client: TestClient, password: str = PASSWORD) -> None:
    client.post("/login", data={"username": "admin", "password": password})


def find_pages(client: TestClient) -> App:
    (pages,) = [
        route.app for route in client.app.routes  # type: ignore[attr-defined]
        if isinstance(route, Mount) and isinstance(route.app, App)
    ]  # fmt: skip
    return pages


def forge(path: Path) -> Iterator[Any]:
    """Whatever a component could take for a file: by itself, in a list, in a gallery, in a message."""
    file = {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
    streamed = {**file, "is_stream": True}
    component = {"component": "file", "value": file, "constructor_args": {}, "props": {}}
    image = {"component": "image", "value": str(path), "constructor_args": {"value": str(path)}, "props": {}}
    yield from (file, streamed, [file], {"value": file}, str(path))
    yield [{"image": file, "caption": None}]
    for content in (file, {"type": "file", "file": file, "alt_text": None}, component, image):
        for listed in (content, [content], [{"type": "component", **content}]):
            yield [{"role": "user", "content": listed, "metadata": None, "options": None}]


def send(client: TestClient, index: int, data: list[Any], session: str) -> str:
    """What an event answers: all its messages."""
    body = {"data": data, "fn_index": index, "session_hash": session, "event_data": None, "trigger_id": None}
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    return client.get("/gradio_api/queue/data", params={"session_hash": session}).text


def list_paths(answer: str) -> set[str]:
    """Every address of a file that an answer names."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.update(str(value[key]) for key in ("path", "url") if value.get(key))
            for item in value.values():
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)
        elif isinstance(value, str) and value.startswith("{'path': "):
            found.add(value.split("'")[3])

    for line in answer.splitlines():
        if line.startswith("data: "):
            look(json.loads(line.removeprefix("data: ")))
    return found


def test_no_input_of_any_event_brings_a_file_out(client: TestClient, secret: Path, cache: Path) -> None:
    sign_in(client)
    config = find_pages(client).get_blocks().config
    events = [item for item in config["dependencies"] if item["backend_fn"]]
    tried = 0
    for event in events:
        for place in range(len(event["inputs"])):
            for payload in forge(secret):
                data: list[Any] = [None] * len(event["inputs"])
                data[place] = payload
                answer = send(client, event["id"], data, f"session{tried}")
                assert SECRET not in answer
                copies = [
                    item
                    for item in cache.rglob("*")
                    if item.is_file() and SECRET in item.read_text("latin-1")
                ]
                where = f"event {event['id']}, input {place}, {payload!r}"
                assert copies == [], f"copied to where files are served from: {where}"
                for path in list_paths(answer) | {str(secret)}:
                    for route in (f"/gradio_api/file={path}", f"/gradio_api/file/{path}"):
                        assert SECRET not in client.get(route).text, f"came out: {where}"
                tried += 1
    assert tried, "there is no event with an input: the pages are no longer found"


# What Gradio serves. Where an upgrade adds a route, nothing is open: read what it does, and see whether
# `PAGE_ROUTES` in the gate needs it; then note it here.
GRADIO_ROUTES = """
GET / HEAD / GET /assets/{} GET /config GET /favicon.ico GET /manifest.json GET /openapi.json HEAD /openapi.json
GET /pwa_icon GET /pwa_icon/{} GET /robots.txt GET /static/{} GET /svelte/{} GET /theme.css POST /login GET /logout
GET /monitoring GET /monitoring/summary GET /monitoring/{}
GET /gradio_api/app_id GET /gradio_api/call/v2/{}/{} GET /gradio_api/call/{}/{}
GET /gradio_api/custom_component/{}/{}/{}/{} GET /gradio_api/deep_link GET /gradio_api/dev/reload
GET /gradio_api/file/{} GET /gradio_api/file={} GET /gradio_api/heartbeat/{} GET /gradio_api/info
GET /gradio_api/login_check GET /gradio_api/openapi.json GET /gradio_api/proxy={} GET /gradio_api/queue/data
GET /gradio_api/queue/status GET /gradio_api/runs GET /gradio_api/startup-events
GET /gradio_api/stream/{}/{}/{}/playlist-file GET /gradio_api/stream/{}/{}/{}/playlist.m3u8
GET /gradio_api/stream/{}/{}/{}/{}.{} GET /gradio_api/theme.css GET /gradio_api/token GET /gradio_api/upload_progress
GET /gradio_api/user GET /gradio_api/vibe-code HEAD /gradio_api/file={} HEAD /gradio_api/proxy={}
POST /gradio_api/api/{} POST /gradio_api/call/v2/{} POST /gradio_api/call/{} POST /gradio_api/cancel
POST /gradio_api/component_server POST /gradio_api/process_recording POST /gradio_api/queue/join
POST /gradio_api/reset POST /gradio_api/run/{} POST /gradio_api/stream/{} POST /gradio_api/stream/{}/close
POST /gradio_api/undo-vibe-edit POST /gradio_api/upload POST /gradio_api/vibe-code POST /gradio_api/vibe-edit
POST /gradio_api/vibe-starter-queries
"""
USED = {
    "GET /", "HEAD /", "GET /assets/x", "GET /static/x", "GET /theme.css", "GET /favicon.ico",
    "GET /gradio_api/heartbeat/x", "GET /gradio_api/queue/data", "POST /gradio_api/queue/join",
    "POST /gradio_api/cancel", "POST /gradio_api/reset",
}  # fmt: skip
OURS = {"POST /login", "GET /logout"}  # answered before Gradio sees them


def list_gradio_routes(client: TestClient) -> set[str]:
    return {
        f"{method} {re.sub('{[^}]*}', '{}', route.path.rstrip('/') or '/')}"
        for route in find_pages(client).routes
        for method in route.methods  # type: ignore[attr-defined]
    }


def test_every_route_of_gradio_is_known(client: TestClient) -> None:
    known = set(re.findall(r"[A-Z]+ \S+", GRADIO_ROUTES))
    assert list_gradio_routes(client) == known


def test_no_route_of_gradio_answers_without_a_sign_in(client: TestClient) -> None:
    for route in sorted(list_gradio_routes(client) - OURS):
        method, path = route.replace("{}", "x").split(" ")
        answer = client.request(method, path, follow_redirects=False)
        expected = (303, "login") if path == "/" else (401, None)
        assert (answer.status_code, answer.headers.get("Location")) == expected, route


def test_valid_bodies_do_not_help_without_a_sign_in(client: TestClient, secret: Path) -> None:
    call = {"data": [], "fn_index": 1, "session_hash": "x", "event_id": "x"}
    for path, body in [
        ("cancel", call), ("reset", {"event_id": "x"}), ("stream/x", call), ("stream/x/close", {}),
        ("queue/join", call), ("run/predict", call), ("call/run", call),
        ("component_server", {**call, "fn_name": "ls"}),
        ("vibe-edit", {"prompt": "x"}), ("undo-vibe-edit", {"hash": "../x"}), ("vibe-code", {"code": "x"}),
    ]:  # fmt: skip
        assert client.post(f"/gradio_api/{path}", json=body).status_code == 401, path
    for path in (
        f"file={secret}",
        "file=http://127.0.0.1:1/",
        "proxy=http://127.0.0.1:1/",
        "queue/data?session_hash=x",
    ):
        assert client.get(f"/gradio_api/{path}").status_code == 401, path
    assert client.post("/gradio_api/upload", files={"files": ("x.html", b"<b>")}).status_code == 401


def test_who_is_signed_in_reaches_what_the_pages_use_alone(
    client: TestClient, secret: Path, cache: Path
) -> None:
    sign_in(client)
    for route in sorted(list_gradio_routes(client) - OURS):
        method, path = route.replace("{}", "x").split(" ")
        if f"{method} {path}" not in USED:
            assert client.request(method, path).status_code == 404, route
    assert client.get("/").status_code == 200
    assert client.post("/gradio_api/upload", files={"files": ("x.html", b"<b>")}).status_code == 404
    beside = cache / "aa" / "note.txt"
    beside.parent.mkdir(parents=True)
    beside.write_text("whatever else lies there")
    for path in (secret, beside, "/etc/passwd"):
        assert client.get(f"/gradio_api/file={path}").status_code == 404


def test_icons_of_the_pages_are_served(client: TestClient) -> None:
    sign_in(client)
    icons = [item["props"]["icon"] for item in find_pages(client).get_blocks().config["components"]
             if item["props"].get("icon")]  # fmt: skip
    assert icons
    assert all(client.get(f"/gradio_api/file={icon['path']}").status_code == 200 for icon in icons)


def test_sessions_end_with_the_password_and_with_a_sign_out(world: FakeWorld, client: TestClient) -> None:
    sign_in(client)
    assert client.get("/theme.css").status_code == 200
    world.password = "a new one"
    assert client.get("/theme.css").status_code == 401
    sign_in(client, "a new one")
    assert client.get("/theme.css").status_code == 200
    kept = dict(client.cookies)
    client.get("/logout")
    client.cookies.update(kept)
    assert client.get("/theme.css").status_code == 401


def test_a_password_may_hold_any_letter(world: FakeWorld, client: TestClient) -> None:
    world.password = "Füße\u0301 密码 €"
    sign_in(client, world.password)
    assert client.get("/theme.css").status_code == 200
    assert client.get("/api/posts", auth=("admin", world.password)).status_code == 200
    assert client.get("/api/posts", auth=("admin", "Fu\u0308ße\u0301 密码 €")).status_code == 200


OTHER_PAGES = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8080"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "http://127.0.0.1:8080"},
    {"Origin": "null"},
    {"Origin": "http://["},
)


def test_other_pages_change_nothing(world: FakeWorld, client: TestClient) -> None:
    """Browsers send cached passwords and, from another port of this host, cookies along."""
    sign_in(client)
    join = {"data": [], "fn_index": 1, "session_hash": "x"}
    login = {"username": "admin", "password": PASSWORD}
    for headers in OTHER_PAGES:
        sync = client.post("/api/knowledge/sync", auth=("admin", PASSWORD), headers=headers)
        assert sync.status_code == 403 and "another page" in sync.json()["error"]["message"], headers
        assert client.post("/gradio_api/queue/join", json=join, headers=headers).status_code == 403, headers
        assert client.post("/login", data=login, headers=headers).status_code == 403, headers
        assert client.get("/logout", headers=headers).status_code == 403, headers
        assert "Access-Control-Allow-Origin" not in client.get("/theme.css", headers=headers).headers, headers
    assert world.airflow.events == []


def test_programs_and_the_desk_itself_may_change_things(client: TestClient) -> None:
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://127.0.0.1:7860"}):
        answer = client.post("/api/knowledge/sync", auth=("admin", PASSWORD), headers=headers)
        assert answer.status_code == 202, headers


def test_guessing_gets_slow_and_says_how_long(world: FakeWorld, client: TestClient) -> None:
    for number in range(GUESSES // 2):
        wrong = {"username": "admin", "password": f"guess {number}"}
        assert client.post("/login", data=wrong).status_code == 401
        assert client.get("/api/posts", auth=("admin", f"other {number}")).status_code == 401
    right = ("admin", PASSWORD)
    page = client.post("/login", data={"username": "admin", "password": PASSWORD})
    api = client.get("/api/posts", auth=right)
    assert (page.status_code, api.status_code) == (429, 429)
    assert (
        "Try again in 6 seconds" in page.text and "Try again in 6 seconds" in api.json()["error"]["message"]
    )
    assert page.headers["Retry-After"] == api.headers["Retry-After"] == "6"
    world.seconds += 6
    assert client.get("/api/posts", auth=right).status_code == 200


def test_a_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    policy = client.get("/login").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:;")
    assert "http" not in policy
