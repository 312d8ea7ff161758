"""Documents that people uploaded, under one URL (`file:`, `s3:`, …): kept, versioned, never changed.

Each version is two files in a folder of the document's name: the content, and then a record, which makes it count. A
deletion is a record without content. It knows no format, no ledger and no desk.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

MAX_BYTES = 50_000_000
MAX_NAME = 200  # characters
MAX_NAME_BYTES = 240  # of UTF-8: file systems take 255
_RECORD = re.compile(r"(\d{8}T\d{12})Z-([0-9a-f]{64}|deleted)\.json")


class UploadError(ValueError):
    """What was uploaded can't be kept as it is; the message says what to do."""


class NoSuchUploadError(UploadError):
    """There is no such document, or no such version of it."""


class UploadsUnavailableError(RuntimeError):
    """The place where uploads are kept can't be reached; trying later may help."""


@dataclass(frozen=True)
class Upload:
    """One version of an uploaded document, or its deletion."""

    name: str
    at: datetime  # in UTC; a later version has a later one, whatever the clock says
    sha256: str  # hex; "" for a deletion

    @property
    def deleted(self) -> bool:
        return not self.sha256

    @property
    def stem(self) -> str:
        """The name of its files, without their suffix."""
        return f"{self.at:%Y%m%dT%H%M%S%f}Z-{self.sha256 or 'deleted'}"


@dataclass(frozen=True)
class Record:
    """Who uploaded or deleted a version."""

    by: str
    size: int  # bytes


class Uploads:
    """The uploaded documents under `url`. Safe for several processes: nothing that is there is ever written again."""

    def __init__(self, url: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        fs, root = fsspec.url_to_fs(url, **options)
        self._fs: AbstractFileSystem = fs
        self._root = str(root).rstrip("/")

    def put(self, name: str, content: bytes, by: str) -> Upload:
        """Keeps a new version; the very bytes that are current already make none. Raises UploadError."""
        check_name(name)
        if not content:
            raise UploadError("it is empty: upload something, or delete the document")
        if len(content) > MAX_BYTES:
            raise UploadError(f"it has {len(content):,} bytes, more than {MAX_BYTES:,}: split it")
        digest = sha256(content).hexdigest()
        latest = self.find_current(name)
        if latest and latest.sha256 == digest:
            return latest
        return self._append(name, digest, content, by)

    def delete(self, name: str, by: str) -> Upload:
        """Marks the document as deleted; its versions stay. Raises NoSuchUploadError where there is none."""
        if self.find_current(name) is None:
            raise NoSuchUploadError(f"there is no uploaded document {name}")
        return self._append(name, "", b"", by)

    def list_current(self) -> Iterator[Upload]:
        """The newest version of each document that is not deleted, by name."""
        for name in self._list_names():
            if current := self.find_current(name):
                yield current

    def find_current(self, name: str) -> Upload | None:
        """The newest version of a document; None where there is none, or it is deleted."""
        versions = self.list_versions(name)
        return versions[-1] if versions and not versions[-1].deleted else None

    def list_versions(self, name: str) -> list[Upload]:
        """All versions and deletions of a document, oldest first; empty where there never was one."""
        check_name(name)
        found = [_RECORD.fullmatch(entry) for entry in self._list_folder(name)]
        return sorted(
            (Upload(name, _read_time(m[1]), m[2].replace("deleted", "")) for m in found if m),
            key=lambda upload: upload.stem,
        )

    def read(self, upload: Upload) -> bytes:
        """The bytes of a version. Raises NoSuchUploadError, and UploadError where they are not those uploaded."""
        content = self._reach(lambda: self._fs.cat_file(self._locate(upload, "content")))
        if content is None:
            raise NoSuchUploadError(f"this version of {upload.name} is not there any more")
        if sha256(content).hexdigest() != upload.sha256:
            raise UploadError(f"{upload.name} was damaged where it is kept: upload it again")
        return bytes(content)

    def read_record(self, upload: Upload) -> Record:
        """Who made a version. Raises NoSuchUploadError."""
        record = self._reach(lambda: json.loads(self._fs.cat_file(self._locate(upload, "json"))))
        if record is None:
            raise NoSuchUploadError(f"this version of {upload.name} is not there any more")
        return Record(str(record["by"]), int(record["size"]))

    def is_empty(self) -> bool:
        """Whether nothing was ever uploaded."""
        return next(self._list_names(), None) is None

    def _append(self, name: str, digest: str, content: bytes, by: str) -> Upload:
        now, versions = self._clock().astimezone(UTC), self.list_versions(name)
        # A clock that jumped back must not make the newest version an old one.
        at = max(now, versions[-1].at + timedelta(microseconds=1)) if versions else now
        upload = Upload(name, at, digest)
        record = {"by": by, "at": at.isoformat(), "size": len(content)}
        if content:
            self._write(self._locate(upload, "content"), content)
        self._write(self._locate(upload, "json"), json.dumps(record).encode())
        return upload

    def _write(self, path: str, content: bytes) -> None:
        folder = path.rpartition("/")[0]

        def write() -> None:
            if local := isinstance(self._fs, LocalFileSystem):
                self._fs.makedirs(folder, exist_ok=True)
            elif not self._fs.exists(folder):
                self._fs.mkdir(
                    folder, create_parents=False
                )  # a bucket that is not there is none of ours to make
            with self._fs.open(path, "wb") as file:
                file.write(content)
                if local:
                    file.flush()
                    os.fsync(file.fileno())

        self._reach(write, may_lack=False)

    def _list_names(self) -> Iterator[str]:
        yield from (name for name in self._list_folder("") if is_name(name))

    def _list_folder(self, name: str) -> list[str]:
        folder = f"{self._root}/{name}".rstrip("/")
        entries = self._reach(lambda: self._fs.ls(folder, detail=False)) or []
        return sorted(str(entry).rstrip("/").rpartition("/")[2] for entry in entries)

    def _locate(self, upload: Upload, suffix: str) -> str:
        return f"{self._root}/{upload.name}/{upload.stem}.{suffix}"

    @staticmethod
    def _reach(call: Callable[[], Any], *, may_lack: bool = True) -> Any:
        """What the call gives; None where there is no such file or folder, and that `may_lack`."""
        try:
            return call()
        except Exception as error:  # each kind of storage has errors of its own
            if may_lack and isinstance(error, FileNotFoundError):
                return None
            raise UploadsUnavailableError(f"uploads can't be reached ({type(error).__name__})") from error


def is_name(name: str) -> bool:
    """Whether a document may be called so: the name of one visible file, which leads nowhere else."""
    return (
        0 < len(name) <= MAX_NAME
        and len(name.encode(errors="surrogatepass")) <= MAX_NAME_BYTES
        and name.isprintable()
        and name == name.strip()
        and not name.startswith(".")
        and not set(name) & set("/\\")
    )


def check_name(name: str) -> None:
    """Raises UploadError where a document can't be called so."""
    if not is_name(name):
        raise UploadError(
            f"{ascii(name)[:MAX_NAME]} can't be a document's name: leave out slashes, a dot in front, line breaks and "
            f"spaces around it, and keep it under {MAX_NAME} characters"
        )


def _read_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
