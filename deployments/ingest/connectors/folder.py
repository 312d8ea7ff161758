"""Documents in a folder of this machine, or one that is mounted here.

It knows no ledger: what a file showed when it was last listed comes in as fingerprints. A fingerprint is of the inode,
the size, and the times of the last writing (mtime) and the last change of any kind (ctime, which nobody can set). They
are compared for equality alone: an older copy that is put back, or a clock that jumps back, shows like any change.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from deployments.ingest.connectors.naming import is_hidden, name_document, refuse_size
from deployments.ingest.connectors.options import NonEmpty, SourceOptions
from deployments.ingest.connectors.port import (
    MAX_BYTES,
    Connector,
    DocumentGoneError,
    DocumentUnreadableError,
    DocumentWithheldError,
    Environment,
    SourceUnavailableError,
)
from deployments.ingest.model import Problem, RawDocument, Reference

TRIES = 3
TICK = 0.02
"""Seconds: two writes within one tick of the kernel's clock leave the same times."""
COARSE_TICK = 2.0
"""Seconds, where a file system notes whole ones."""
_ONE_FILE_ALONE = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}
"""What concerns one entry; any other error (EIO, ESTALE, ENOTCONN) is of a disk or mount that is failing."""


class Options(SourceOptions):
    """`path`: the folder; a relative one starts in the folder of content."""

    path: NonEmpty


def build_connector(name: str, options: Options, environment: Environment) -> "FolderConnector":
    """The connector of one folder."""
    return FolderConnector(name, environment.content_dir / Path(options.path).expanduser(), options)


class FolderConnector(Connector):
    """Visible files below a folder. The folder may be a link; a link in it is followed only to a file within."""

    def __init__(self, name: str, folder: Path, options: SourceOptions) -> None:
        self._name, self._folder, self._options = name, folder, options

    def list_references(self, known: Mapping[str, str]) -> Iterator[Reference | Problem]:
        root = os.path.realpath(self._folder)
        if not os.path.isdir(root):
            raise SourceUnavailableError(f"There is no folder {self._folder}: create it, or mount it again")
        moved = _Moves(known)
        waiting = [""]  # folders, relative to the root: each is read to its end before the next
        while waiting:
            folder = waiting.pop()
            try:
                for entry in _read_folder(root, folder):
                    path = f"{folder}{entry.name}"
                    if is_hidden(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{path}/")
                    elif (found := self._list_entry(root, path, entry)) is not None:
                        yield moved.keep_fingerprint(found) if isinstance(found, Reference) else found
            except OSError as error:
                if isinstance(error, FileNotFoundError) and folder and os.path.isdir(root):
                    continue  # deleted while the rest was listed
                if error.errno not in _ONE_FILE_ALONE or not folder:
                    raise SourceUnavailableError(
                        f"The folder {os.path.join(self._folder, folder)} can't be read: {error.strerror}"
                    ) from error
                yield self._describe(folder.rstrip("/"), "the folder can't be read: check its permissions")

    def _list_entry(self, root: str, path: str, entry: os.DirEntry[str]) -> Reference | Problem | None:
        """A file, or what is wrong with it; None where it is not wanted, or gone by now."""
        if entry.is_symlink() and os.path.isdir(entry.path):
            return self._describe(
                path, "links to folders are not followed inside a source: put the folder itself there"
            )
        if not self._options.wants(path):
            return None
        uri = name_document(self._name, path)
        if isinstance(uri, Problem):
            return uri
        try:
            seen = entry.stat()
        except OSError as error:
            if not entry.is_symlink() and isinstance(error, FileNotFoundError):
                return None
            if isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP:
                return Problem(uri, "it is no regular file, or a link to nothing: replace or delete it")
            if error.errno in _ONE_FILE_ALONE:
                return Problem(uri, f"it can't be read: {error.strerror}")
            raise
        if not stat.S_ISREG(seen.st_mode):
            return Problem(uri, "it is no regular file, or a link to nothing: replace or delete it")
        if entry.is_symlink() and not _is_within(root, entry.path):
            return Problem(uri, "it is a link out of its source: put the file itself there")
        fingerprint = take_fingerprint(seen)
        if message := refuse_size(seen.st_size):
            return Problem(uri, message, fingerprint=fingerprint)
        place = os.path.join(self._folder, path)
        return Reference(uri, self._name, path, fingerprint, seen.st_size, place=place)

    def _describe(self, path: str, message: str) -> Problem:
        named = name_document(self._name, path)
        return named if isinstance(named, Problem) else Problem(named, message)

    def open_document(self, reference: Reference) -> RawDocument:
        root = os.path.realpath(self._folder)
        path = os.path.join(root, reference.key)
        if not _is_within(root, path):
            raise DocumentUnreadableError("it is a link out of its source: put the file itself there")
        for _ in range(TRIES):
            try:
                content, before, after = _read_file(os.path.realpath(path))
            except OSError as error:
                raise self._explain(root, error) from error
            if take_fingerprint(before) == take_fingerprint(after) and len(content) == after.st_size:
                fingerprint = take_fingerprint(after)
                opened = replace(reference, fingerprint=fingerprint, size=len(content))
                return RawDocument(opened, content, sha256(content).hexdigest(), reference.media_type)
        raise DocumentWithheldError("it is being written: it is read when it rests")

    def _explain(self, root: str, error: OSError) -> Exception:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            if os.path.isdir(root):
                return DocumentGoneError("it is not there any more")
            return SourceUnavailableError(f"There is no folder {self._folder}: create it, or mount it again")
        if error.errno in _ONE_FILE_ALONE:
            return DocumentUnreadableError(f"it can't be read: {error.strerror}")
        return SourceUnavailableError(f"The folder {self._folder} can't be read: {error.strerror}")


class _Moves:
    """A file that was renamed keeps the fingerprint that it had, for renaming changes nothing but its ctime."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self._known = known
        self._earlier: dict[str, str] | None = None

    def keep_fingerprint(self, reference: Reference) -> Reference:
        if reference.key in self._known:
            return reference
        if self._earlier is None:
            self._earlier = {_leave_out_ctime(mark): mark for mark in self._known.values()}
        earlier = self._earlier.get(_leave_out_ctime(reference.fingerprint))
        return replace(reference, fingerprint=earlier) if earlier else reference


def take_fingerprint(seen: os.stat_result) -> str:
    """What changes whenever the file does."""
    return f"file:{seen.st_ino:x}-{seen.st_size:x}-{seen.st_mtime_ns:x}-{seen.st_ctime_ns:x}"


def _leave_out_ctime(fingerprint: str) -> str:
    return fingerprint.rpartition("-")[0]


def _read_folder(root: str, folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(os.path.join(root, folder).rstrip("/")) as entries:
        yield from entries


def _is_within(root: str, path: str) -> bool:
    return os.path.commonpath([root, os.path.realpath(path)]) == root


def _read_file(path: str) -> tuple[bytes, os.stat_result, os.stat_result]:
    """The bytes, and what the file showed before and after. Neither a link nor a pipe is opened."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise DocumentUnreadableError("it is no regular file, or a link to nothing: replace or delete it")
        _let_tick_pass(before)
        if message := refuse_size(before.st_size):
            raise DocumentUnreadableError(message)
        content = file.read(MAX_BYTES + 1)
        if message := refuse_size(len(content)):
            raise DocumentUnreadableError(message)
        return content, before, os.fstat(file.fileno())


def _let_tick_pass(seen: os.stat_result) -> None:
    """Waits until another write would show, for at most COARSE_TICK. A time to come (the clock jumped) is let be."""
    whole_seconds = not (seen.st_mtime_ns % 1_000_000_000 or seen.st_ctime_ns % 1_000_000_000)
    tick = COARSE_TICK if whole_seconds else TICK
    age = time.time() - max(seen.st_mtime, seen.st_ctime)
    if 0 <= age < tick:
        time.sleep(tick - age)
