"""How a time is written down: in UTC and with its zone, for programs and for people.

It knows no clock.
"""

from datetime import UTC, datetime


def write_time(at: datetime) -> str:
    """ISO 8601 with its offset, to the second: `2026-11-24T09:30:00+00:00`. One without a zone is UTC."""
    return _to_utc(at).isoformat(timespec="seconds")


def show_time(at: datetime | str | None, *, seconds: bool = True) -> str:
    """`24 Nov 2026, 09:30:00 UTC`, of a time or of ISO 8601; a dash for none."""
    if not at:
        return "–"
    time = _to_utc(datetime.fromisoformat(at) if isinstance(at, str) else at)
    return time.strftime("%d %b %Y, %H:%M:%S UTC" if seconds else "%d %b %Y, %H:%M UTC")


def _to_utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
