"""A small real HTTP server that answers like Marquez, over a FakeSink; the fake decides, this only speaks HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from deployments.lineage.sinks.fake import FakeSink
from deployments.lineage.sinks.port import DeliveryFailedError, EventRefusedError, SinkAwayError

_STATUS = {EventRefusedError: 422, DeliveryFailedError: 500, SinkAwayError: 503}


@contextmanager
def serve_marquez(fake: FakeSink, port: int = 0) -> Iterator[str]:
    """The URL of a server that keeps events in `fake`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                fake.deliver(event)
            except (EventRefusedError, DeliveryFailedError, SinkAwayError) as error:
                self._answer(_STATUS[type(error)], str(error))
            else:
                self._answer(201 if self.path == "/api/v1/lineage" else 404, "")

        def do_GET(self) -> None:
            self._answer(200 if fake.is_well() and self.path.startswith("/api/v1/namespaces") else 500, "{}")

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

    server = Server(("127.0.0.1", port), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
