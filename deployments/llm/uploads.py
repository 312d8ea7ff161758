"""Uploaded and produced files: one folder each with the bytes and what is known of them.

It knows no HTTP and does not read what is in a file.
"""

import logging
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, Literal
from uuid import uuid4

from pydantic import BaseModel

from deployments.llm.durable_files import replace_durably, sweep_folder, write_durably
from deployments.llm.records import UnreadableRecordError, read_record

log = logging.getLogger(__name__)

_ID: Final = re.compile(r"file-[0-9a-f]{8,64}")
_PIECE: Final = 2**20


class FileObject(BaseModel):
    """OpenAI's file object."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"


class FileStore:
    """Files under one folder; a file is there whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def sweep(self) -> int:
        """Takes away what a kill left of uploads and deletions, while there are none; returns how much it was."""
        return sweep_folder(self._directory)

    def add(
        self,
        content: BinaryIO,
        filename: str,
        purpose: str,
        file_id: str | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> FileObject:
        """Copies what is left to read, piece by piece, under a new id; under one that is given it replaces the file.

        `check` is called for each piece; where it raises, nothing is kept.
        """
        file_id = file_id or f"file-{uuid4().hex[:24]}"
        partial = self._name_temporary(file_id)
        partial.mkdir(parents=True, mode=0o700)
        try:
            with replace_durably(partial / "content") as stream:
                while piece := content.read(_PIECE):
                    check()
                    stream.write(piece)
                size = stream.tell()
            file = FileObject(
                id=file_id, bytes=size, created_at=int(time.time()), filename=filename, purpose=purpose
            )
            write_durably(partial / "file.json", file.model_dump_json().encode())
            self.discard(file_id)
            partial.rename(self._directory / file_id)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return file

    def get(self, file_id: str) -> FileObject | None:
        """The file's description, or None. Raises UnreadableRecordError."""
        if not _ID.fullmatch(file_id):
            return None
        return read_record(self._directory / file_id / "file.json", FileObject, file_id)

    def content_path(self, file_id: str) -> Path:
        """Where the bytes are; ask `get` first whether there are any."""
        return self._directory / file_id / "content"

    def list(self) -> "list[FileObject]":
        """All files that can be read, newest first."""
        found = []
        for path in self._directory.glob("file-*"):
            try:
                found.append(self.get(path.name))
            except UnreadableRecordError as error:
                log.error("A file is left out of the list: %s", error)
        return sorted(
            (file for file in found if file), key=lambda file: (file.created_at, file.id), reverse=True
        )

    def delete(self, file_id: str) -> bool:
        """Removes a file; False when there was none. Raises UnreadableRecordError."""
        return self.get(file_id) is not None and self.discard(file_id)

    def discard(self, file_id: str) -> bool:
        """Removes a file whose record need not be readable, as it is known what it is; False when there was none."""
        # Renamed first: a kill halfway leaves nothing that looks like a file.
        gone = self._name_temporary(file_id)
        try:
            (self._directory / file_id).rename(gone)
        except FileNotFoundError:  # another request was faster
            return False
        shutil.rmtree(gone)
        return True

    def _name_temporary(self, file_id: str) -> Path:
        return self._directory / f".{file_id}.{uuid4().hex[:8]}"
