"""Decides whether a request to empty the knowledge base still stands when its turn comes.

It does no I/O and knows no Airflow. A request that waited, in a paused Dag or in a cleared run, may not be any more
what the person meant who made it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.contracts import CLEAR_BEFORE, CLEAR_VERSION

STANDS_FOR = timedelta(hours=1)
"""How long a request without a time limit of its own stands."""


class OutdatedRequestError(RuntimeError):
    """The request does not stand any more: nothing was cleared."""


@dataclass(frozen=True)
class Request:
    """`before` is when the clearing must have begun; `version` the knowledge version that the person saw."""

    before: datetime  # with its zone
    any_version: bool = True
    version: int | None = None  # None: before the first ingestion


def read_request(conf: Mapping[str, Any], asked_at: datetime) -> Request:
    """The request in a run's `conf`, which may be empty. Raises OutdatedRequestError where it can't be read."""
    before, version = conf.get(CLEAR_BEFORE), conf.get(CLEAR_VERSION)
    try:
        limit = datetime.fromisoformat(before) if before is not None else asked_at + STANDS_FOR
        if limit.tzinfo is None:
            raise ValueError("a time without its zone")
        return Request(limit, CLEAR_VERSION not in conf, None if version is None else int(version))
    except (TypeError, ValueError) as error:
        raise OutdatedRequestError(
            f"The run's conf can't be read ({error}), and nothing was cleared: leave it empty, or use "
            "`ghostwriter knowledge clear`."
        ) from error


def check_request(request: Request, newest: int | None, now: datetime) -> None:
    """Raises OutdatedRequestError where the time limit is over, or `newest` is not the version that was seen."""
    if now > request.before:
        raise OutdatedRequestError(
            f"This clearing was asked for until {request.before.isoformat(timespec='seconds')}, and nothing was "
            "cleared: ask again with `ghostwriter knowledge clear`."
        )
    if not request.any_version and request.version != newest:
        raise OutdatedRequestError(
            f"This clearing was asked for at version {_name(request.version)} of the knowledge base, which is at "
            f"{_name(newest)} now, and nothing was cleared: look at `ghostwriter knowledge status` and ask again."
        )


def _name(version: int | None) -> str:
    return "none" if version is None else str(version)
