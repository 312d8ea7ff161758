"""A Weaviate of a benchmark's own: its own ports and folder, gone when the block ends.

It knows no collection.
"""

import os
import random
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from benchmarks.llm_server import wait_for
from shared.vectors.weaviate import WeaviateStore
from stack.config import load_config
from stack.ports import plan_ports
from stack.weaviate import build_environment, find_binary

_START_SECONDS: Final = 60.0

Connect = Callable[[str], WeaviateStore]
"""A store over a collection of this name."""


@contextmanager
def run_weaviate() -> Iterator[Connect]:
    """A started server; raises RuntimeError where this machine has no binary or it ends at once."""
    with tempfile.TemporaryDirectory(prefix="weaviate") as folder:
        state = Path(folder)
        key = secrets.token_urlsafe(16)
        (state / "secrets").mkdir()
        for name in ("weaviate_api_key", "weaviate_reader_key", "weaviate_cluster_password"):
            (state / "secrets" / name).write_text(
                key if name == "weaviate_api_key" else secrets.token_urlsafe(16)
            )
        config = load_config({**os.environ, "STATE_DIR": folder, "PORT_OFFSET": _find_offset()})
        binary = find_binary(config)
        if binary is None:
            raise RuntimeError("there is no Weaviate here: `make up` gets it")
        port, grpc_port = config.ports["WEAVIATE_PORT"], config.ports["WEAVIATE_GRPC_PORT"]
        command = [str(binary), "--host", "127.0.0.1", "--port", str(port), "--scheme", "http"]
        with (state / "log").open("wb") as log:
            process = subprocess.Popen(
                command, env=build_environment(config), cwd=folder, stdout=log, stderr=log
            )
        try:
            wait_for(lambda: process.poll() is not None or _is_ready(port), _START_SECONDS)
            if process.poll() is not None:
                raise RuntimeError(f"Weaviate ended with {process.returncode}")
            yield lambda name: WeaviateStore(
                "127.0.0.1", port, grpc_port, key, alias=name, collection=f"{name}_v1"
            )
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_ready(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/v1/.well-known/ready"
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _find_offset() -> str:
    """Its ports must lie as far from each other as the default ones: it finds itself by that."""
    for offset in random.sample(range(1_000, 15_000), 50):
        ports = plan_ports({"PORT_OFFSET": str(offset)})
        if all(_is_free(port) for name, port in ports.items() if name.startswith("WEAVIATE_")):
            return str(offset)
    raise RuntimeError("no free ports for Weaviate")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
