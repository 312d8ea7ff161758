"""Who may come in: the keys of this installation, each with a name, scopes and limits, and how a request shows one.

The file holds digests, never a key; it is read again when it changes, so a revocation needs no restart. It knows no
route.
"""

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.llm.durable_files import replace_durably

log = logging.getLogger(__name__)

Scope = Literal["chat", "embeddings", "images", "files", "fine_tuning", "metrics", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
DEFAULT_SCOPES: Final = tuple(scope for scope in SCOPES if scope != "admin")
DEFAULT_NAME: Final = "default"
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class KeyFileError(ValueError):
    """The file of keys is of no use; the message names it and says what to do."""


class Key(BaseModel):
    """A key as it is kept. None is no limit; a revoked one opens nothing, and its name is not given again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=_NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: int = Field(description="seconds since 1970")
    revoked: int | None = None
    scopes: tuple[Scope, ...] = DEFAULT_SCOPES
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1, description="prompts and answers, by days of UTC")
    concurrency: int | None = Field(default=None, ge=1, description="requests that run at once")


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[Key] = []


class Keyring:
    """The key of the installation, which has no limits, and those of the file; without any, everyone may come in.

    Once there was a key it stays closed: a file that is moved away takes its keys with it and opens nothing. Raises
    KeyFileError where the file is damaged from the beginning; where that happens later, the keys that were read last go
    on, and the log says so.
    """

    def __init__(self, default_key: str, path: Path | None = None) -> None:
        self._path, self._seen = path, None if path is None else _stamp(path)
        self._default: list[Key] = []
        if default_key:
            entry = Key(name=DEFAULT_NAME, sha256=digest_key(default_key.encode()), created=0, scopes=SCOPES)
            self._default = [entry]
        self._keys = read_keys(path) if path else []
        self._closed = bool(self._default or self._keys)

    @property
    def open(self) -> bool:
        """Whether there is no key at all, not even a revoked one, and was none since the start."""
        self._refresh()
        return not self._closed

    def find(self, given: bytes) -> Key | None:
        """The key that this is, in a time that doesn't tell how near it came; None for a wrong or revoked one."""
        self._refresh()
        digest, found = digest_key(given), None
        for key in (*self._default, *self._keys):
            if hmac.compare_digest(digest, key.sha256) and key.revoked is None:
                found = key
        return found

    def _refresh(self) -> None:
        if self._path is None or (stamp := _stamp(self._path)) == self._seen:
            return
        self._seen = stamp
        try:
            self._keys = read_keys(self._path)
        except KeyFileError as error:
            log.error("%s. The %d keys that were read last go on", error, len(self._keys))
        else:
            self._closed = self._closed or bool(self._keys)
            log.info("%s was read again: %d keys", self._path.name, len(self._keys))


def digest_key(key: bytes) -> str:
    """What is kept of a key. Keys are random and long: nothing slower is needed."""
    return hashlib.sha256(key).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """The file's keys; none where there is no file. Raises KeyFileError."""
    try:
        keys = _KeyFile.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeyFileError(f"{path} can't be read ({error.strerror}): it must be a file of yours") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise KeyFileError(
            f"{path} is damaged ({place}: {first['msg']}): bring it back from a backup, or make new keys"
        ) from None
    names = [key.name for key in keys]
    if double := next((name for name in names if names.count(name) > 1 or name == DEFAULT_NAME), None):
        raise KeyFileError(f"{path} names {double} twice: leave one of them")
    return keys


def add_key(path: Path, name: str, **limits: object) -> str:
    """Makes a key and returns it, this once. Raises KeyFileError, and ValueError for a name or limit that can't be."""
    secret = f"gw-{secrets.token_urlsafe(32)}"
    key = Key.model_validate(
        {"name": name, "sha256": digest_key(secret.encode()), "created": int(time.time()), **limits}
    )
    with _change(path) as keys:
        if name == DEFAULT_NAME or any(other.name == name for other in keys):
            raise KeyFileError(f"There is, or was, a key {name}: give another name")
        keys.append(key)
    return secret


def revoke_key(path: Path, name: str) -> None:
    """From now on it opens nothing. Raises KeyFileError where there is no such key."""
    with _change(path) as keys:
        place = next((place for place, key in enumerate(keys) if key.name == name), None)
        if place is None:
            hint = " (it is in llm_api_key: put another one there)" if name == DEFAULT_NAME else ""
            raise KeyFileError(f"There is no key {name}{hint}")
        if keys[place].revoked is None:
            keys[place] = keys[place].model_copy(update={"revoked": int(time.time())})


@contextmanager
def _change(path: Path) -> Iterator[list[Key]]:
    """The keys, to be changed; two changes at once wait for each other."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(path)
        yield keys
        with replace_durably(path) as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(_KeyFile(keys=keys).model_dump_json(indent=2).encode())


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The time of its last change tells too that a file which could not be read now can be.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
