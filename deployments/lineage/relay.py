"""The loop of the relay: spools into the ledger, the ledger to the sink, and a heartbeat.

It knows no HTTP and no SQL. Nothing is lost while the ledger or the sink is away: the spools and the ledger wait.
"""

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from deployments.lineage.delivery import Deliverer
from deployments.lineage.spool import Position, read_lines, trim
from deployments.lineage.store import LineageStore
from shared.ledger.models import utc_now
from shared.lineage import SPOOL_FILE

log = logging.getLogger(__name__)

PAUSE: Final = 0.5  # seconds between looks at the spools
CLOSING_PAUSE: Final = 5.0
_LONGEST_WAIT: Final = 10.0


@dataclass
class Relay:
    """`run` returns when `stop` is set."""

    spool_dir: Path
    heartbeat: Path
    store: LineageStore
    deliverer: Deliverer | None
    stop: threading.Event
    grace: timedelta = timedelta(seconds=30)  # a task's own end may come after its Dag's
    _trimmed: dict[str, Position] = field(default_factory=dict)
    _can_trim: bool = True  # as far as is known
    _dag_end: int = 0
    _closed_at: float = field(default=float("-inf"))

    def run(self) -> None:
        """Until `stop`; a missing ledger is waited for."""
        delivery = threading.Thread(target=self._deliver, name="deliver", daemon=True)
        delivery.start()
        outages = 0
        while not self.stop.is_set():
            try:
                busy = self.store_spools()
                self._close_runs()
            except SQLAlchemyError as error:
                if outages == 0:
                    log.warning("lineage: no ledger (%s); events wait in the spools", _first_line(error))
                self._wait(min(_LONGEST_WAIT, PAUSE * 2 ** min(outages, 8)))
                outages += 1
                continue
            if outages:
                log.info("lineage: the ledger is back after %d tries", outages)
                outages = 0
            self._beat()
            if not busy:
                self._wait(PAUSE)
        delivery.join(timeout=1.0)

    def store_spools(self) -> bool:
        """Store what is new in every spool, up to 4 MiB each, and trim what is stored; says whether there was any."""
        busy = False
        for path in sorted(self.spool_dir.glob(f"*/{SPOOL_FILE}")):
            try:
                busy |= self._store_spool(path)
            except SQLAlchemyError:
                raise
            except Exception:
                log.exception("lineage: %s can't be stored; the other spools go on", path)
        return busy

    def _store_spool(self, path: Path) -> bool:
        deployment, spool = path.parent.name, f"{path.parent.name}/{path.name}"
        before = self.store.read_position(spool)
        # Only what an earlier transaction stored: a kill between the two leaves a line too many, never one too few.
        self._trim(path, spool, before)
        try:
            lines, after = read_lines(path, before)
        except OSError as error:
            log.warning("lineage: %s can't be read: %s", path, error)
            return False
        if after == before:
            return False
        started = time.monotonic()
        new, bad = self.store.store_lines(spool, deployment, lines, before, after)
        if bad:
            log.warning("lineage: %d bad lines in %s: see the ledger's lineage_quarantine", bad, path)
        if lines:
            log.info(
                "lineage: %s: %d lines, %d new events, %.2f s",
                deployment, len(lines), new, time.monotonic() - started,
            )  # fmt: skip
        return True

    def _trim(self, path: Path, spool: str, stored: Position) -> None:
        if self._trimmed.get(spool) == stored:
            return
        try:
            trim(path, stored)
        except FileNotFoundError:
            return
        except OSError as error:
            if self._can_trim:
                log.warning("lineage: %s grows, its disk space can't be given back: %s", path, error)
            self._can_trim = False
        self._trimmed[spool] = stored

    def _close_runs(self) -> None:
        if time.monotonic() - self._closed_at < CLOSING_PAUSE:
            return
        self._dag_end, closed = self.store.close_runs(self._dag_end, utc_now() - self.grace)
        self._closed_at = time.monotonic()
        if closed:
            log.info("lineage: closed %d runs that their Dag's end left open", closed)

    def _deliver(self) -> None:
        if self.deliverer is None:
            log.info("lineage: no Marquez is set (GHOSTWRITER_MARQUEZ_URL); events are kept in the ledger")
            return
        while not self.stop.is_set():
            try:
                tally = self.deliverer.deliver_round()
            except SQLAlchemyError:
                self.stop.wait(2.0)  # the other thread reports it
                continue
            except Exception:
                log.exception("lineage: a delivery round failed; the next one follows")
                self.stop.wait(5.0)
                continue
            if tally:
                log.info(
                    "lineage: Marquez: %s", ", ".join(f"{count} {what}" for what, count in tally.items())
                )
            else:
                self.stop.wait(PAUSE)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self.stop.is_set() and (left := end - time.monotonic()) > 0:
            self._beat()
            self.stop.wait(min(1.0, left))

    def _beat(self) -> None:
        try:
            self.heartbeat.parent.mkdir(parents=True, exist_ok=True)
            self.heartbeat.touch()
        except OSError as error:
            log.warning("lineage: no heartbeat: %s", error)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
