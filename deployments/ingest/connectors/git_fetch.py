"""Fetches a branch of a remote repository into a bare clone; a process of its own, which can be killed at any time.

    echo '{"url": …, "folder": …, "branch": …}' | python -m deployments.ingest.connectors.git_fetch   -> {"branch": …}

It knows no source. Secrets come through its standard input, never in its arguments.
"""

import fcntl
import json
import os
import resource
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dulwich.client import HttpGitClient, HTTPUnauthorized
from dulwich.errors import GitProtocolError, NotGitRepository
from dulwich.objects import ObjectID
from dulwich.refs import Ref
from dulwich.repo import Repo
from urllib3.exceptions import HTTPError

FETCH_SECONDS = 600
SILENCE_SECONDS = 60.0
MAX_PACK_BYTES = 4 << 30
MAX_PACKS = 30
"""Each fetch that finds something adds a pack; then the clone is made anew, which also forgets what nobody needs."""
FETCHED = Ref(b"refs/heads/fetched")


class FetchError(RuntimeError):
    """The branch could not be fetched; the message says why."""


def fetch(url: str, folder: Path, branch: str, username: str = "", password: str = "") -> str:
    """The branch (empty: the one that HEAD names) as `FETCHED` in the clone, which is made where there is none.

    Returns the branch's name. Raises FetchError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the alarm ends a wait that is too long
        fresh = folder.with_suffix(".fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        if _is_whole(folder):
            return _fetch_into(folder, url, branch, username, password)
        fresh.mkdir()
        Repo.init_bare(fresh).close()
        name = _fetch_into(fresh, url, branch, username, password)
        old = folder.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        with suppress(FileNotFoundError):
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        return name


def _is_whole(folder: Path) -> bool:
    try:
        with Repo(str(folder)) as repo:
            return FETCHED in repo.refs and len(list(repo.object_store.packs)) <= MAX_PACKS
    except NotGitRepository:
        return False


def _fetch_into(folder: Path, url: str, branch: str, username: str, password: str) -> str:
    wanted = Ref(f"refs/heads/{branch}".encode()) if branch else Ref(b"HEAD")
    parts = urlsplit(url)
    client = HttpGitClient(
        f"{parts.scheme}://{parts.netloc}/",
        username=username or None,
        password=password or None,
        timeout=SILENCE_SECONDS,
        quiet=True,
    )
    with Repo(str(folder)) as repo:

        def choose(refs: Any, depth: int | None = None) -> list[ObjectID]:
            if wanted not in refs:
                raise FetchError(f"there is no branch {branch}" if branch else "it is empty")
            return [refs[wanted]] if refs[wanted] not in repo.object_store else []

        try:
            result = client.fetch(parts.path, repo, choose, depth=1, ref_prefix=[b"HEAD", bytes(wanted)])
        except HTTPUnauthorized:
            raise FetchError("it asks for credentials, or refuses those given") from None
        except NotGitRepository:
            raise FetchError("there is no repository at this address") from None
        except (GitProtocolError, HTTPError, OSError) as error:
            raise FetchError(f"it can't be reached ({type(error).__name__})") from None
        if (head := result.refs.get(wanted)) is None:
            raise FetchError(f"there is no branch {branch}" if branch else "it is empty")
        repo.refs[FETCHED] = head
        target = result.symrefs.get(Ref(b"HEAD"), b"HEAD")
        return branch or target.decode(errors="replace").removeprefix("refs/heads/")


def main() -> None:
    """One order from standard input; the answer is a line of JSON."""
    signal.alarm(FETCH_SECONDS)  # also where nobody is left who would end this process
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_PACK_BYTES, MAX_PACK_BYTES))
    os.umask(0o077)
    order = json.load(sys.stdin)
    try:
        answer = {"branch": fetch(**{**order, "folder": Path(order["folder"])})}
    except FetchError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
