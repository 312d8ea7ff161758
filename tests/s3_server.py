"""A real S3 server of a test's own: versitygw in front of a folder, built once into the cache, from its pinned module.

It knows no source and no upload.
"""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem

from stack.config import StackConfig, load_config
from stack.weaviate_binary import find_go, install_go
from tests.postgres_server import free_port, wait_for

VERSION = "1.8.0"
MODULE = f"github.com/versity/versitygw@v{VERSION}"
MODULE_SUM = "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc="
"""Of this version's Go module, as Go's checksum database vouches for it."""
BUILD_SECONDS = 900
KEY, SECRET = "ada", "only-for-this-test"


def ensure_binary(config: StackConfig | None = None) -> Path:
    """The server's program, built where it is not in the cache yet (a minute, once)."""
    config = config or load_config()
    target = config.cache_dir / "bin" / f"versitygw-{VERSION}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not target.is_file():
            build(config, target)
    return target


def build(config: StackConfig, target: Path) -> None:
    go = find_go() or install_go(config, print)
    env = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-buildvcs=false",
    }
    done = subprocess.run(
        [go, "mod", "download", "-json", MODULE],
        env=env, cwd="/", capture_output=True, text=True, timeout=BUILD_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, f"{MODULE} can't be had: {done.stderr[-400:]}{done.stdout[-400:]}"
    module = json.loads(done.stdout)
    assert module["Sum"] == MODULE_SUM, f"the sum of {MODULE} is {module['Sum']}, not the pinned one"
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        with zipfile.ZipFile(module["Zip"]) as source:
            source.extractall(folder)
        built = Path(folder, "versitygw")
        done = subprocess.run(
            [go, "build", "-mod=readonly", "-ldflags=-s -w", "-o", built, "./cmd/versitygw"],
            env=env, cwd=Path(folder, MODULE), capture_output=True, text=True, timeout=BUILD_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        shutil.move(built, target)


class S3Server:
    """Where it listens, and a filesystem that may do anything there."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.endpoint = folder, f"http://127.0.0.1:{port}"
        self.options = {"endpoint_url": self.endpoint}
        self.credentials = f"{KEY}:{SECRET}"

    def connect(self) -> AbstractFileSystem:
        return fsspec.filesystem(
            "s3", key=KEY, secret=SECRET, skip_instance_cache=True, use_listings_cache=False, **self.options
        )


@contextmanager
def run_s3_server(folder: Path) -> Iterator[S3Server]:
    """Buckets are folders below `folder`. It listens on this machine alone, and ends with the block."""
    (folder / "buckets").mkdir()
    (folder / "sidecar").mkdir()
    port = free_port()
    command: list[str | Path] = [
        ensure_binary(), "--port", f"127.0.0.1:{port}", "--quiet",
        "posix", "--sidecar", folder / "sidecar", folder / "buckets",
    ]  # fmt: skip
    env = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(lambda: process.poll() is not None or listens(port))
            assert process.poll() is None, (folder / "log").read_text()
            yield S3Server(folder / "buckets", port)
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
