"""A web server of a test's own on this machine: pages, and whatever else a server can do."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    at: float = 0.0  # Last-Modified, where it is told
    endless: bytes = b""  # comes after the body, again and again
    pause: float = 0.0  # seconds before each of these


class WebServer:
    """`answers` by path; `tells`: which validators of a page it sends; `asked`: the requests, with their headers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.answers: dict[str, Answer | Callable[[], Answer]] = {}
        self.tells: set[str] = {"etag"}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.ended = threading.Event()

    def put(
        self, path: str, body: bytes | str, media_type: str = "text/html; charset=utf-8", **options: object
    ) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.answers[path] = Answer(content, headers={"Content-Type": media_type}, at=time.time())

    def count(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.asked)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: ClassVar[WebServer]

    def log_message(self, format: str, *args: object) -> None: ...

    def handle(self) -> None:
        with suppress(ConnectionError):  # the other side may hang up
            super().handle()

    def do_GET(self) -> None:
        self.web.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        answer = self.web.answers.get(self.path, Answer(b"not here", 404))
        if callable(answer):
            answer = answer()
        headers = dict(answer.headers)
        etag = f'"{sha256(answer.body).hexdigest()[:20]}"'
        if answer.status == 200 and answer.at:
            if "etag" in self.web.tells:
                headers["ETag"] = etag
            if "modified" in self.web.tells:
                headers["Last-Modified"] = formatdate(answer.at, usegmt=True)
        same = "ETag" in headers and self.headers.get("If-None-Match") == headers["ETag"]
        if (
            (since := self.headers.get("If-Modified-Since"))
            and "Last-Modified" in headers
            and "ETag" not in headers
        ):
            same = int(answer.at) <= parsedate_to_datetime(since).timestamp()
        status = 304 if same else answer.status
        body = b"" if status == 304 else answer.body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if answer.endless:
            self.send_header("Connection", "close")
        elif "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
            while answer.endless and not self.web.ended.wait(answer.pause):
                self.wfile.write(answer.endless)
        except OSError:
            pass  # the other side has hung up
        self.close_connection = self.close_connection or bool(answer.endless)


@contextmanager
def run_web_server() -> Iterator[WebServer]:
    handler = type("OneHandler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        web = WebServer(server.server_port)
        handler.web = web  # type: ignore[attr-defined]
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield web
        finally:
            web.ended.set()
            server.shutdown()
            thread.join()
