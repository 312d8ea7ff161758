"""Reads the JSON records that the server keeps on disk; a damaged one is named and left where it is.

It knows no record's meaning.
"""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Record = TypeVar("Record", bound=BaseModel)


class UnreadableRecordError(Exception):
    """A record is there but can't be read; the message names the file and says what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        super().__init__(
            f"{path} can't be read ({reason}). Nothing was deleted: bring the file back from a backup, or move its "
            "folder away, and restart the LLM server."
        )


def read_record(path: Path, kind: type[Record], record_id: str | None = None) -> Record | None:
    """The record; None where there is no file. Raises UnreadableRecordError, also where it has another id."""
    try:
        record = kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UnreadableRecordError(path, f"{place}: {first['msg']}" if place else first["msg"]) from error
    except OSError as error:
        raise UnreadableRecordError(path, error.strerror or type(error).__name__) from error
    found = getattr(record, "id", None)
    if record_id is not None and found != record_id:
        raise UnreadableRecordError(path, "it is the record of another folder")
    return record
