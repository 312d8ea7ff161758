"""Documents anywhere that fsspec reaches: S3 and what speaks like it, Azure, Google's, SFTP, archives, ….

Object stores are listed by pages, others a folder at a time. It knows no storage by its client; fsspec does.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import fsspec
from fsspec import AbstractFileSystem
from pydantic import Field, field_validator

from deployments.ingest.connectors.naming import is_hidden, name_document, refuse_size
from deployments.ingest.connectors.options import NonEmpty, SecretName, SourceOptions
from deployments.ingest.connectors.port import (
    MAX_BYTES,
    MAX_URI,
    Connector,
    DocumentGoneError,
    DocumentUnreadableError,
    DocumentWithheldError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.model import Problem, RawDocument, Reference

Info = Mapping[str, Any]
REFUSED: Final = {
    "file": "the connector folder", "local": "the connector folder", "http": "the connector website",
    "https": "the connector website", "git": "the connector git", "reference": "what it refers to",
    "data": "a file",
}  # fmt: skip
DIGESTS: Final = ("ETag", "etag", "md5Hash", "content_md5", "md5", "sha256", "sha", "crc32c", "CRC")
TIMES: Final = ("LastModified", "last_modified", "mtime", "modified", "updated", "date_time", "created")
"""What storages call the digest and the time of an object; both are compared for equality alone."""
S3_LIMITS: Final = {
    "connect_timeout": 10,
    "read_timeout": 60,
    "retries": {"max_attempts": 3, "mode": "standard"},
}
TRIES = 3
_SECRET = re.compile("(?i)(key|secret|token|passw|credential|signature|sas)")


class Options(SourceOptions):
    """`url`: what fsspec understands, such as `s3://bucket/folder`. `options`: what its filesystem takes, no secrets.

    `credentials`: the name of a secret; `key:secret` for S3, or JSON with the options that are secret.
    """

    url: NonEmpty
    options: dict[str, Any] = Field(default_factory=dict)
    credentials: SecretName | None = None

    @field_validator("url")
    @classmethod
    def _is_reached(cls, url: str) -> str:
        if "://" not in url:
            raise ValueError("write it like s3://bucket/folder")
        for part in url.split("::"):
            protocol = part.partition("://")[0]
            if protocol in REFUSED:
                raise ValueError(f"{protocol} is not read by this connector: use {REFUSED[protocol]}")
            if protocol not in fsspec.available_protocols() and protocol not in fsspec.registry:
                raise ValueError(f"fsspec knows no {protocol}")
            if "@" in part.partition("://")[2].partition("/")[0]:
                raise ValueError(
                    "leave user and password out: `credentials` names the secret that holds them"
                )
        return url

    @field_validator("options")
    @classmethod
    def _holds_no_secret(cls, options: dict[str, Any]) -> dict[str, Any]:
        for key in options:
            if _SECRET.search(key):
                raise ValueError(f"{key} looks like a secret: `credentials` names the one that holds it")
        return options


def build_connector(name: str, options: Options, environment: Environment) -> "FilesystemConnector":
    """The connector of what lies under one URL."""
    secret = environment.find_secret(options.credentials) if options.credentials else ""
    if options.credentials and not secret:
        raise SourceUnavailableError(
            f"There is no secret {options.credentials}: write it into sources/{options.credentials} among the secrets"
        )
    return FilesystemConnector(name, options, read_credentials(secret))


def read_credentials(secret: str) -> dict[str, Any]:
    """Options for the filesystem from a secret."""
    if secret.startswith("{"):
        try:
            options = json.loads(secret)
        except ValueError:
            raise SourceUnavailableError("The secret begins like JSON and is none") from None
        return dict(options)
    key, colon, value = secret.partition(":")
    if secret and not colon:
        raise SourceUnavailableError("The secret is neither key:secret nor JSON")
    return {"key": key, "secret": value} if secret else {}


class FilesystemConnector(Connector):
    """Visible files under a URL. A digest that the storage knows is the fingerprint, else time and size."""

    def __init__(self, name: str, options: Options, credentials: Mapping[str, Any] | None = None) -> None:
        self._name, self._options = name, options
        self._credentials = credentials or {}
        # Whether a listing shows what opening shows: not every filesystem of fsspec does.
        self._listing_tells: bool | None = None
        self._opened: tuple[AbstractFileSystem, str] | None = None

    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        with self._reach():
            fs, root = self._open()
            listed = _list_pages(fs, root) if _speaks_s3(fs) else _list_folders(fs, root)
            for info in listed:
                if (found := self._list_entry(fs, root, info)) is not None:
                    yield found

    def _list_entry(self, fs: AbstractFileSystem, root: str, info: Info) -> Reference | Problem | None:
        key = str(info["name"])
        path = key[len(root) :].removeprefix("/")
        if is_hidden(path) or not self._options.wants(path):
            return None
        uri = name_document(self._name, path)
        if isinstance(uri, Problem):
            return uri
        if info.get("islink") or info.get("type") != "file":
            return Problem(uri, "it is no regular file: replace or delete it")
        if self._listing_tells is None:
            self._listing_tells = _speaks_s3(fs) or take_fingerprint(info) == take_fingerprint(fs.info(key))
        try:
            info = info if self._listing_tells else fs.info(key)
        except FileNotFoundError:
            return None
        size = info.get("size")
        fingerprint = take_fingerprint(info) or ""
        if size is not None and (message := refuse_size(size)):
            return Problem(uri, message, fingerprint=fingerprint)
        if not fingerprint:  # the storage tells nothing that would show a change
            try:
                fingerprint = _mark(_read(fs, key)[0])
            except FileNotFoundError:
                return None
            except DocumentUnreadableError as error:
                return Problem(uri, str(error))
        return Reference(uri, self._name, key, fingerprint, size, place=str(fs.unstrip_protocol(key)))

    def open_document(self, reference: Reference) -> RawDocument:
        with self._reach():
            fs, _ = self._open()
            try:
                content, fingerprint = _read(fs, reference.key)
            except FileNotFoundError:
                raise DocumentGoneError("it is not there any more") from None
            except PermissionError:
                raise DocumentWithheldError("it may not be read: check its permissions") from None
        opened = replace(reference, fingerprint=fingerprint or _mark(content), size=len(content))
        return RawDocument(opened, content, sha256(content).hexdigest(), reference.media_type)

    def _open(self) -> tuple[AbstractFileSystem, str]:
        if self._opened is None:
            url, first = self._options.url, self._options.url.partition("://")[0]
            options: dict[str, Any] = {**self._options.options, **self._credentials}
            if first in ("s3", "s3a"):
                options["config_kwargs"] = {**S3_LIMITS, **options.get("config_kwargs", {})}
            # What was seen once must not be shown again.
            fs, root = fsspec.url_to_fs(url, **options, use_listings_cache=False, skip_instance_cache=True)
            self._opened = fs, str(root).rstrip("/")
        return self._opened

    @contextmanager
    def _reach(self) -> Iterator[None]:
        """Each storage has errors of its own: all that are not the port's say that it can't be reached."""
        try:
            yield
        except (SourceUnavailableError, DocumentUnreadableError):
            raise
        except Exception as error:
            # Some messages hold whole requests; the type and what a person can check is enough.
            why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            if isinstance(error, ImportError):
                why = str(error)
            raise SourceUnavailableError(f"{self._options.url} can't be read: {why}") from error


def take_fingerprint(info: Info) -> str | None:
    """What changes whenever the object does; None where the storage tells nothing of the kind."""
    for key in DIGESTS:
        if value := info.get(key):
            return f"{key.lower()}:{_shorten(value)}-{info.get('size')}"
    for key in TIMES:
        if value := info.get(key):
            return f"{key.lower()}:{_shorten(value)}-{info.get('size')}-{info.get('ino', '')}"
    return None


def _shorten(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime) else str(value).strip('"')
    return text if len(text) <= 80 and text.isprintable() else sha256(text.encode()).hexdigest()


def _mark(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


def _speaks_s3(fs: AbstractFileSystem) -> bool:
    return callable(getattr(fs, "call_s3", None))


def _list_pages(fs: AbstractFileSystem, root: str) -> Iterator[Info]:
    """All objects below a prefix, 1,000 keys at a time."""
    bucket, _, prefix = root.partition("/")
    more: dict[str, str] = {}
    while True:
        page = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "", **more)
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # what consoles make to show an empty folder
                yield {"name": f"{bucket}/{entry['Key']}", "type": "file", "size": entry["Size"], **entry}
        if not page.get("IsTruncated"):
            return
        token = page.get("NextContinuationToken")
        if not token or token == more.get("ContinuationToken"):
            raise SourceUnavailableError("The listing goes round in circles")
        more = {"ContinuationToken": token}


def _list_folders(fs: AbstractFileSystem, root: str) -> Iterator[Info]:
    """All files below a folder; the largest folder is what is in memory."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = fs.ls(folder, detail=True)
        except FileNotFoundError:
            if folder == root:
                raise
            continue  # deleted while the rest was listed
        for info in entries:
            path = str(info["name"]).rstrip("/")
            if info.get("type") == "directory" and not info.get("islink"):
                if path != folder and not is_hidden(path[len(root) :]) and len(path) <= MAX_URI:
                    waiting.append(path)
            elif path != root:
                yield {**info, "name": path}


def _read(fs: AbstractFileSystem, key: str) -> tuple[bytes, str | None]:
    """The bytes of one object and its fingerprint, of one and the same state."""
    pinned = _speaks_s3(fs)  # what is opened there is read by its ETag, or not at all
    for _ in range(TRIES):
        before = {} if pinned else fs.info(key)
        try:
            with fs.open(key, "rb") as file:
                before = file.details if pinned else before
                if message := refuse_size(before.get("size") or 0):
                    raise DocumentUnreadableError(message)
                content = bytes(file.read(MAX_BYTES + 1))
        except OSError as error:
            if type(error).__name__ == "FileExpired":  # another object took its place while it was read
                continue
            raise
        if message := refuse_size(len(content)):
            raise DocumentUnreadableError(message)
        fingerprint = take_fingerprint(before)
        if pinned or fingerprint == take_fingerprint(fs.info(key)):
            return content, fingerprint
    raise DocumentWithheldError("it is being written: it is read when it rests")
