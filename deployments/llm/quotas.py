"""How much each key has asked for, and whether it may ask for more: requests a minute, tokens a day, at once.

It knows no HTTP. Tokens of the day outlive a restart, but for those of the last seconds before a crash.
"""

import logging
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, NonNegativeInt

from deployments.llm.durable_files import write_durably
from deployments.llm.keyring import Key
from deployments.llm.records import UnreadableRecordError, read_record

log = logging.getLogger(__name__)

_MINUTE: Final = 60.0
_DAY: Final = 86_400


class Usage(BaseModel):
    """Tokens by key on one day of UTC, as a number of days since 1970."""

    day: int = 0
    tokens: dict[str, NonNegativeInt] = {}


@dataclass(frozen=True)
class Excess:
    """A key may not ask now: what was exceeded, and the seconds after which it may again."""

    limit: str
    allowed: int
    seconds: int
    lasting: bool = False
    """Whether it is used up for the day, so that trying again soon is of no use."""


@dataclass
class _Spent:
    times: deque[float] = field(default_factory=deque)
    running: int = 0


class Quotas:
    """Counts in memory; `save` writes the day's tokens where there is a file. `clock` gives seconds since 1970."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._spent: dict[str, _Spent] = {}
        self._saved = usage = _read(path) if path else Usage()
        self._day, self._tokens = usage.day, Counter(usage.tokens)

    def admit(self, key: Key) -> Excess | None:
        """Counts a request in, to be given to `release` at its end; or says why it may not come in."""
        now = self._clock()
        with self._lock:
            self._turn_day(now)
            spent = self._spent.setdefault(key.name, _Spent())
            while spent.times and spent.times[0] <= now - _MINUTE:
                spent.times.popleft()
            if key.tokens_per_day is not None and self._tokens[key.name] >= key.tokens_per_day:
                rest = math.ceil(_DAY - now % _DAY)
                return Excess("tokens per day", key.tokens_per_day, rest, lasting=True)
            if key.requests_per_minute is not None and len(spent.times) >= key.requests_per_minute:
                rest = math.ceil(spent.times[0] + _MINUTE - now)
                return Excess("requests per minute", key.requests_per_minute, max(1, rest))
            if key.concurrency is not None and spent.running >= key.concurrency:
                return Excess("requests at once", key.concurrency, 1)
            if key.requests_per_minute is not None:
                spent.times.append(now)
            spent.running += 1
            return None

    def release(self, key: Key) -> None:
        """A request that was let in has ended."""
        with self._lock:
            self._spent[key.name].running -= 1

    def spend(self, key: Key, tokens: int) -> None:
        """A request took so many tokens; it may have ended since."""
        with self._lock:
            self._turn_day(self._clock())
            if tokens:
                self._tokens[key.name] += tokens

    def describe(self, key: Key) -> dict[str, str]:
        """Headers as OpenAI sends them, of the limits that the key has."""
        now, headers = self._clock(), {}
        with self._lock:
            self._turn_day(now)
            times = self._spent.get(key.name, _Spent()).times
            for name, limit, used, rest in (
                ("requests", key.requests_per_minute, len(times), times[0] + _MINUTE - now if times else 0),
                ("tokens", key.tokens_per_day, self._tokens[key.name], _DAY - now % _DAY),
            ):
                if limit is not None:
                    headers[f"x-ratelimit-limit-{name}"] = str(limit)
                    headers[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                    headers[f"x-ratelimit-reset-{name}"] = f"{max(0, math.ceil(rest))}s"
        return headers

    def save(self) -> None:
        """Writes what was spent since the last time; a disk that takes nothing is told in the log, no more."""
        with self._lock:
            self._turn_day(self._clock())
            usage = Usage(day=self._day, tokens=dict(self._tokens))
        if self._path is None or usage == self._saved:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._path, usage.model_dump_json().encode())
        except OSError as error:
            log.error(
                "The day's tokens could not be written (%s); they are counted in memory", error.strerror
            )
            return
        self._saved = usage

    def _turn_day(self, now: float) -> None:
        day = int(now // _DAY)
        if day != self._day:
            self._day, self._tokens = day, Counter()


def _read(path: Path) -> Usage:
    try:
        return read_record(path, Usage) or Usage()
    except UnreadableRecordError as error:
        log.error("The day's tokens are counted from zero: %s", error)
        return Usage()
