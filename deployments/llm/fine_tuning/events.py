"""A job's events on disk, as appended lines; server and trainer both write them."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import ValidationError

from deployments.llm.disk import is_full_disk
from deployments.llm.fine_tuning.job import Event
from shared.lineage import append_line

log = logging.getLogger(__name__)

_EVENTS: Final = "events.jsonl"


def append_event(
    job_dir: Path,
    message: str,
    *,
    level: Literal["info", "warn", "error"] = "info",
    data: dict[str, Any] | None = None,
    now: Callable[[], float] = time.time,
) -> None:
    """Appends one event; safe from several processes, as one line is one write. On a full disk it is logged only."""
    event = Event(
        id=f"ftevent-{uuid4().hex[:24]}",
        created_at=int(now()),
        level=level,
        message=message,
        type="metrics" if data else "message",
        data=data or {},
    )
    try:
        append_line(job_dir / _EVENTS, event.model_dump_json())
    except OSError as error:
        # append_line tells of a line that was cut short with an error without a number: then too the disk is full.
        if not is_full_disk(error) and error.errno is not None:
            raise
        log.error("The disk is full; an event of %s is lost: %s", job_dir.name, message)


def read_events(job_dir: Path) -> list[Event]:
    """All events in order; a line torn by a kill, or damaged since, is left out."""
    try:
        lines = (job_dir / _EVENTS).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        try:
            events.append(Event.model_validate_json(line))
        except ValidationError:
            continue
    return events


def last_written(job_dir: Path) -> float | None:
    """When the last event was appended, in Unix seconds; None before there is one."""
    try:
        return (job_dir / _EVENTS).stat().st_mtime
    except FileNotFoundError:
        return None
