"""What a run's tasks leave for each other: Parquet files under one URL, so that workers may be anywhere.

It knows no step's meaning. A file is there whole or not at all, and is read and written a row group at a time.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import uuid4

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

KEEP_SECONDS = 7 * 24 * 3600
GROUP_ROWS = 2_000
GROUP_BYTES = 4_000_000  # of the columns that count: what a reader holds at once
_READABLE = 80  # characters of a run id that its folder shows
_COUNTED = ("text",)  # columns whose size matters

Row = dict[str, Any]


class HandoverLostError(RuntimeError):
    """A file of the run is not there; the message says what to do."""


@dataclass(frozen=True)
class Handover:
    """Where all runs' files lie: `file:///…/ingest/runs`, `s3://bucket/prefix`, whatever fsspec reaches."""

    url: str

    def open_run(self, run: str) -> "RunFiles":
        """The files of one Airflow Dag run, whatever its id is made of."""
        # The digest tells runs apart whose ids look alike; a person who triggers a run may choose any id, even "..".
        readable = re.sub(r"[^A-Za-z0-9_+-]", "_", run)[:_READABLE]
        digest = hashlib.sha256(run.encode()).hexdigest()[:32]
        return RunFiles(self.url.rstrip("/"), f"{readable}-{digest}")

    def remove_old(self) -> None:
        """Remove the folders of runs that ended long ago without doing so; what can't be removed stays."""
        files, root = fsspec.url_to_fs(self.url)
        with suppress(OSError):
            for entry in files.ls(root, detail=True):
                folder = entry["name"]
                found = files.find(folder, detail=True).values()
                newest = max((_get_age(files, info) for info in found), default=0.0)
                if time.time() - newest > KEEP_SECONDS:
                    with suppress(OSError):  # another run may tidy up at the same time
                        files.rm(folder, recursive=True)


def _get_age(files: Any, info: Mapping[str, Any]) -> float:
    """When a file was written, in seconds since the epoch; now where its file system doesn't say."""
    try:
        return float(files.modified(info["name"]).timestamp())
    except (NotImplementedError, OSError):
        return time.time()


@dataclass(frozen=True)
class RunFiles:
    """`<url>/<name of the run>/<file>.parquet`."""

    url: str
    name: str

    @cached_property
    def _place(self) -> tuple[Any, str]:
        files, root = fsspec.url_to_fs(self.url)
        return files, f"{root}/{self.name}"

    def remove(self) -> None:
        """Remove all of the run's files."""
        files, folder = self._place
        with suppress(FileNotFoundError):
            files.rm(folder, recursive=True)

    def exists(self, name: str) -> bool:
        """Whether the file is there, whole."""
        files, folder = self._place
        files.invalidate_cache(folder)
        return bool(files.exists(f"{folder}/{name}.parquet"))

    def delete(self, name: str) -> None:
        """Remove one file, where it is."""
        files, folder = self._place
        with suppress(FileNotFoundError):
            files.rm_file(f"{folder}/{name}.parquet")

    def list_names(self, prefix: str) -> list[str]:
        """Names of the files that begin so."""
        files, folder = self._place
        files.invalidate_cache(folder)
        try:
            found = files.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        names = (path.rsplit("/", 1)[-1] for path in found)
        ends = (name.removesuffix(".parquet") for name in names if name.endswith(".parquet"))
        return sorted(name for name in ends if name.startswith(prefix))

    @contextmanager
    def write(self, name: str, schema: pa.Schema) -> Iterator["Writer"]:
        """Write a file that is there once this ends well; the writer's `notes` are small values about the whole."""
        files, folder = self._place
        files.makedirs(folder, exist_ok=True)
        beside = f"{folder}/.{name}.{uuid4().hex}"
        try:
            with files.open(beside, "wb") as file:
                writer = Writer(file, schema)
                try:
                    yield writer
                finally:  # after an error, too: a writer that is thrown away open ends the file by itself, later
                    writer.finish()
            files.mv(beside, f"{folder}/{name}.parquet")
        except BaseException:
            with suppress(OSError):
                files.rm_file(beside)
            raise

    def write_rows(
        self, name: str, schema: pa.Schema, rows: Sequence[Row], notes: Mapping[str, Any] | None = None
    ) -> None:
        """Write a small file."""
        with self.write(name, schema) as writer:
            writer.notes.update(notes or {})
            for row in rows:
                writer.add(row)

    @contextmanager
    def _open(self, name: str) -> Iterator[pq.ParquetFile]:
        files, folder = self._place
        try:
            with files.open(f"{folder}/{name}.parquet", "rb") as file, pq.ParquetFile(file) as opened:
                yield opened
        except FileNotFoundError:
            raise HandoverLostError(
                f"This run's file {name} is gone: the run has ended, or was planned anew. Start a new run, or clear "
                "all tasks of this one."
            ) from None

    def read_notes(self, name: str) -> dict[str, Any]:
        """What was noted about the file. Raises HandoverLostError."""
        with self._open(name) as file:
            notes = (file.metadata.metadata or {}).get(b"notes", b"{}")
            return dict(json.loads(notes))

    def read_tables(self, name: str) -> Iterator[pa.Table]:
        """The rows in columns, as many at once as were written together. Raises HandoverLostError."""
        with self._open(name) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)

    def read_groups(self, name: str) -> Iterator[list[Row]]:
        """The rows, as many at once as were written together. Raises HandoverLostError."""
        for table in self.read_tables(name):
            yield table.to_pylist()

    def read(self, name: str) -> Iterator[Row]:
        """The rows one by one. Raises HandoverLostError."""
        for rows in self.read_groups(name):
            yield from rows

    def read_group(self, name: str, number: int) -> list[Row]:
        """One row group. Raises HandoverLostError."""
        with self._open(name) as file:
            if number >= file.num_row_groups:
                raise HandoverLostError(f"This run's file {name} has no part {number}: start a new run.")
            return file.read_row_group(number).to_pylist()


class Writer:
    """Collects rows, and writes them as a row group when there are enough, or when it is told to."""

    def __init__(self, file: Any, schema: pa.Schema) -> None:
        self._writer, self._schema = pq.ParquetWriter(file, schema, compression="zstd"), schema
        self.notes: dict[str, Any] = {}
        self._rows: list[Row] = []
        self._size = 0
        self.count = 0

    def add(self, row: Row) -> None:
        """One row, with a value for each column."""
        self._rows.append(row)
        self.count += 1
        self._size += sum(len(row[name]) for name in _COUNTED if name in row)
        if len(self._rows) >= GROUP_ROWS or self._size >= GROUP_BYTES:
            self.end_group()

    def end_group(self, rows: Sequence[Row] | None = None) -> None:
        """Write what was collected as one row group, or `rows` as one of their own, whatever their number."""
        if rows is not None:
            self.end_group()
            self._rows = list(rows)
            self.count += len(rows)
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            self._writer.write_table(table, row_group_size=len(self._rows))
        self._rows, self._size = [], 0

    def finish(self) -> None:
        """Write the rest and the end of the file."""
        self.end_group()
        self._writer.add_key_value_metadata({"notes": json.dumps(self.notes)})
        self._writer.close()
