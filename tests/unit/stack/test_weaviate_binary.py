"""Which Weaviate is taken: of the pinned version, and vouched for by someone else than its source."""

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from stack import weaviate_binary
from stack.config import StackConfig, load_config
from stack.weaviate import MODULE_SUM, VERSION, ask_version, find_binary, get_cached_binary
from stack.weaviate_binary import BinaryError, ensure_binary

Put = Callable[[str, str], Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """`put(name, script)`: a program that is found on PATH before any other of its name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put_program(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put_program


def log_line(version: str) -> str:
    line = {
        "build_git_commit": "",
        "build_wv_version": version,
        "level": "error",
        "msg": "could not load config",
    }
    return f"echo '{json.dumps(line, separators=(',', ':'))}' >&2; exit 1"


def test_the_pinned_version_on_path_is_taken(stack_config: StackConfig, put: Put) -> None:
    path = put("weaviate", log_line(VERSION))
    assert find_binary(stack_config) == path == ensure_binary(stack_config, print)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (log_line("1.30.0"), "is Weaviate 1.30.0"),
        ("exec cat /dev/null", "tells no version"),
        (f"echo {VERSION}", "no version"),
    ],
)
def test_any_other_on_path_is_left_alone_and_named(
    stack_config: StackConfig, put: Put, script: str, told: str
) -> None:
    path = put("weaviate", script)
    put("go", "echo go version go1.99.0; [ $1 = version ]")
    said: list[str] = []
    assert find_binary(stack_config) is None
    with pytest.raises(BinaryError, match=f"put Weaviate {VERSION} on PATH"):
        ensure_binary(stack_config, said.append)
    assert str(path) in said[0] and told in said[0]


def test_asking_leaves_no_data_and_starts_nothing(put: Put, tmp_path: Path) -> None:
    put("weaviate", f"env > {tmp_path}/env; pwd > {tmp_path}/pwd; {log_line('1.2.3')}")
    assert ask_version(tmp_path / "bin" / "weaviate") == "1.2.3"
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert env["GRPC_PORT"] == "none" and not Path(env["PERSISTENCE_DATA_PATH"]).exists()


def test_the_real_one_tells_its_version() -> None:
    cached = get_cached_binary(load_config())
    if not cached.is_file():
        pytest.skip("no Weaviate in the cache: make up builds it")
    assert ask_version(cached) == VERSION


@pytest.fixture
def go(put: Put, tmp_path: Path) -> Callable[[str], None]:
    """`go(sum)`: a Go whose module cache holds a Weaviate of that sum; its build says what it was given."""

    def put_go(module_sum: str) -> None:
        path = tmp_path / "module.zip"
        with zipfile.ZipFile(path, "w") as module:
            module.writestr(f"github.com/weaviate/weaviate@v{VERSION}/go.sum", "sums of all that it needs")
        answer = json.dumps({"Path": "github.com/weaviate/weaviate", "Zip": str(path), "Sum": module_sum})
        put(
            "go",
            f"""case "$1" in
            version) echo "go version go1.99.0 linux/amd64" ;;
            mod) echo '{answer}' ;;
            build) echo "$* GOWORK=$GOWORK" > {tmp_path}/built; while [ "$1" != -o ]; do shift; done; cp go.sum "$2" ;;
            esac""",
        )

    return put_go


def test_the_pinned_module_is_built_by_its_own_sums(
    stack_config: StackConfig, go: Callable[[str], None], tmp_path: Path
) -> None:
    go(MODULE_SUM)
    binary = ensure_binary(stack_config, print)
    assert binary.read_text() == "sums of all that it needs" and binary.stat().st_mode & 0o100
    built = (tmp_path / "built").read_text()
    assert "-mod=readonly" in built and built.endswith("./cmd/weaviate-server GOWORK=off\n")
    assert list(binary.parent.iterdir()) == [binary]


def test_a_module_of_another_sum_is_not_built(
    stack_config: StackConfig, go: Callable[[str], None], tmp_path: Path
) -> None:
    go("h1:" + "A" * 43 + "=")
    with pytest.raises(BinaryError, match="not the pinned one"):
        ensure_binary(stack_config, print)
    assert not (tmp_path / "built").exists() and find_binary(stack_config) is None


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """A server of releases that vouches for its own: the true digest of what it gives, and what was asked for."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tarred:
        member = tarfile.TarInfo("weaviate")
        member.size = 6
        tarred.addfile(member, io.BytesIO(b"binary"))
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{digest}  x".encode() if self.path.endswith(".sha256") else archive.getvalue())

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(weaviate_binary, "RELEASES", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(weaviate_binary, "get_release_name", lambda: "weaviate-linux.tar.gz")
    yield digest, asked
    server.shutdown()
    server.server_close()


def test_a_release_is_taken_by_the_users_digest_alone(
    stack_config: StackConfig, release: tuple[str, list[str]], put: Put
) -> None:
    digest, asked = release
    put("go", "echo go version go1.99.0; [ $1 = version ]")
    with pytest.raises(BinaryError, match="WEAVIATE_SHA256"):
        ensure_binary(stack_config, print)
    assert asked == []
    with pytest.raises(BinaryError, match=f"SHA-256 of the release .* is {digest}, not WEAVIATE_SHA256"):
        ensure_binary(replace(stack_config, weaviate_sha256="0" * 64), print)
    assert find_binary(stack_config) is None
    given = load_config({"WEAVIATE_SHA256": digest.upper()}).weaviate_sha256
    binary = ensure_binary(replace(stack_config, weaviate_sha256=given), print)
    assert binary.read_text() == "binary" and not any(path.endswith(".sha256") for path in asked)
