"""A real Weaviate of a test's own, which can be killed and come back.

It knows no collection.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from shared.vectors.weaviate import WeaviateStore
from stack.config import load_config
from stack.secrets import ensure_secrets
from stack.weaviate import build_environment
from stack.weaviate_binary import ensure_binary
from tests.postgres_server import free_port, wait_for

PORTS = (
    "WEAVIATE_PORT", "WEAVIATE_GRPC_PORT", "WEAVIATE_GOSSIP_PORT", "WEAVIATE_DATA_PORT", "WEAVIATE_RAFT_PORT",
    "WEAVIATE_RAFT_RPC_PORT",
)  # fmt: skip
START_SECONDS = 60.0


class WeaviateServer:
    """Data in a folder; the binary is `make up`'s."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = {name: free_port() for name in PORTS}
        # It takes for granted that they come in pairs.
        ports["WEAVIATE_DATA_PORT"] = ports["WEAVIATE_GOSSIP_PORT"] + 1
        ports["WEAVIATE_RAFT_RPC_PORT"] = ports["WEAVIATE_RAFT_PORT"] + 1
        environment = {"STATE_DIR": str(folder), **{name: str(port) for name, port in ports.items()}}
        if cache := os.environ.get("GHOSTWRITER_CACHE_DIR"):
            environment["GHOSTWRITER_CACHE_DIR"] = cache
        self.config = load_config(environment)
        ensure_secrets(self.config.secrets_dir)
        self.port, self.grpc_port = (
            self.config.ports["WEAVIATE_PORT"],
            self.config.ports["WEAVIATE_GRPC_PORT"],
        )
        self.key = self.config.secret("weaviate_api_key")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = ensure_binary(self.config, lambda _: None)
        command = [str(binary), "--host", "127.0.0.1", "--port", str(self.port), "--scheme", "http"]
        env = {"PATH": os.environ.get("PATH", ""), **build_environment(self.config)}
        with (self.folder / "weaviate.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=env, cwd=self.folder, stdout=log, stderr=log)
        wait_for(self._is_ready, START_SECONDS)

    def kill(self) -> None:
        """As a loss of power ends it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def connect(self) -> WeaviateStore:
        """A store with the writer's key."""
        return WeaviateStore("127.0.0.1", self.port, self.grpc_port, self.key)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "weaviate.log").read_text()[-3000:]
        try:
            url = f"http://127.0.0.1:{self.port}/v1/.well-known/ready"
            return httpx.get(url, timeout=2).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serve_weaviate() -> Iterator[WeaviateServer]:
    """A started server; its data goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="weaviate"))
    server = WeaviateServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
