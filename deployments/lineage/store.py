"""The relay's queries on the ledger: what was read how far, what is stored, what has gone out.

It knows no file and no sink. An event that is done with has `delivered_at`; where it never went out, `last_error`
says why.
"""

import hashlib
import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Insert, Select, and_, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError
from sqlalchemy.orm import Session, sessionmaker

from deployments.lineage.cleaning import (
    TERMINAL,
    BadLineError,
    CleanEvent,
    Event,
    clean_event,
    clean_excerpt,
    clean_line,
)
from deployments.lineage.closing import close_runs, get_dag_run, keep_datasets, tells_of_ends
from deployments.lineage.ordering import Pending
from deployments.lineage.spool import Line, Position
from shared.ledger.models import LineageEvent, LineageOffset, LineageQuarantine, utc_now

log = logging.getLogger(__name__)

_EXCERPT = 200
_LONGEST_RUN = timedelta(days=7)
_CLOSING_WINDOW = timedelta(days=1)  # after a start of the relay, how far back it looks for ends of Dag runs


class LineageStore:
    """Each method is a transaction of its own; may be used by many threads."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions

    def read_position(self, spool: str) -> Position:
        """How far this spool is stored."""
        with self._sessions() as session:
            row = session.get(LineageOffset, spool)
            return Position(row.inode, row.offset) if row else Position()

    def store_lines(
        self, spool: str, deployment: str, lines: Sequence[Line], before: Position, after: Position
    ) -> tuple[int, int]:
        """Store events and the position in one transaction; gives the number of new events and of new bad lines.

        Does nothing where another relay has been faster. A bad line is kept once per spool, however often it comes.
        """
        events, bad = [], []
        for line in lines:
            try:
                if line.too_long:
                    raise BadLineError("longer than a line may be")
                events.append((line, clean_line(line.data)))
            except BadLineError as error:
                bad.append((line, str(error)))
            except Exception as error:  # whatever a line may hold, those after it are stored
                bad.append((line, f"{type(error).__name__} while it was read: {error}"))
        with self._sessions.begin() as session:
            if not _move_position(session, spool, before, after):
                return 0, 0
            new, unstorable = _insert_events(session, deployment, events)
            rows = [
                _quarantine(
                    spool, line.offset, line.digest, line.data[:_EXCERPT].decode(errors="replace"), error_text
                )
                for line, error_text in bad + unstorable
            ]
            return new, _insert(session, LineageQuarantine, ("spool", "digest"), rows)

    def close_runs(self, after_id: int, stored_before: datetime) -> tuple[int, int]:
        """End the task runs that were left open; gives the id to go on after, and the number of runs closed.

        Looks at ends of Dag runs and later tries stored before that moment: a task's own end may be in the spool yet.
        """
        closed = 0
        seen = (LineageEvent.id > after_id, LineageEvent.stored_at < stored_before)
        facets = LineageEvent.payload["run"]["facets"]
        # As text: the database refuses the whole query where it can't make a number of one of them.
        number = facets["airflow"]["taskInstance"]["try_number"].as_string()
        dag_end = and_(LineageEvent.event_type.in_(TERMINAL), facets["airflowState"].as_string().is_not(None))
        later_try = and_(LineageEvent.event_type == "START", number.not_in(["0", "1"]))
        with self._sessions.begin() as session:
            last = session.scalar(select(func.max(LineageEvent.id)).where(*seen)) or after_id
            causes = select(LineageEvent).where(
                *seen,
                LineageEvent.id <= last,
                LineageEvent.stored_at > stored_before - _CLOSING_WINDOW,
                or_(dag_end, later_try),
            )
            for row in session.scalars(causes.order_by(LineageEvent.id)).all():
                try:
                    with session.begin_nested():
                        closed += _close_runs(session, row)
                except Exception as error:
                    if _is_outage(error):
                        raise
                    # An event that an earlier version let in; the others are closed all the same.
                    log.warning("lineage: event %d ends no runs: %s", row.id, type(error).__name__)
        return last, closed

    def pending(self, limit: int, without_jobs: Collection[tuple[str, str]] = ()) -> list[Pending]:
        """Undelivered events, oldest first; those of jobs that had better wait are left out."""
        query = select(LineageEvent).where(LineageEvent.delivered_at.is_(None))
        if without_jobs:
            job = tuple_(LineageEvent.job_namespace, LineageEvent.job_name)
            query = query.where(job.not_in(list(without_jobs)))
        with self._sessions() as session:
            return [
                Pending(
                    id=row.id,
                    run_id=row.run_id,
                    job=(row.job_namespace, row.job_name),
                    event_type=row.event_type,
                    event_time=row.event_time,
                    payload=row.payload,
                    attempts=row.attempts,
                )
                for row in session.scalars(query.order_by(LineageEvent.id).limit(limit))
            ]

    def ended_runs(self, run_ids: Collection[str]) -> set[str]:
        """Which of these runs' ends the sink has acknowledged."""
        query = select(LineageEvent.run_id).where(
            LineageEvent.run_id.in_(set(run_ids)),
            LineageEvent.event_type.in_(TERMINAL),
            LineageEvent.delivered_at.is_not(None),
            LineageEvent.last_error.is_(None),
        )
        with self._sessions() as session:
            return set(session.scalars(query))

    def mark_delivered(self, event_id: int) -> None:
        """The sink has acknowledged it."""
        self._update(event_id, delivered_at=utc_now(), attempts=LineageEvent.attempts + 1, last_error=None)

    def mark_skipped(self, event_id: int, reason: str) -> None:
        """It need not go out."""
        self._update(event_id, delivered_at=utc_now(), last_error=f"not sent: {reason}")

    def mark_failed(self, event_id: int, error: str) -> None:
        """To be tried again."""
        self._update(event_id, attempts=LineageEvent.attempts + 1, last_error=error)

    def quarantine_event(self, event: Pending, error: str) -> None:
        """The sink won't take it; it stays in the ledger."""
        excerpt = f"{event.event_type} of {event.job[1]}, run {event.run_id}"
        digest = hashlib.sha256(f"event {event.id}".encode()).hexdigest()
        with self._sessions.begin() as session:
            row = _quarantine("marquez", event.id, digest, excerpt, error)
            _insert(session, LineageQuarantine, ("spool", "digest"), [row])
            session.execute(
                update(LineageEvent)
                .where(LineageEvent.id == event.id)
                .values(
                    delivered_at=utc_now(), attempts=LineageEvent.attempts + 1, last_error=f"refused: {error}"
                )
            )

    def count_pending(self) -> int:
        """Undelivered events."""
        with self._sessions() as session:
            query = select(func.count()).select_from(LineageEvent).where(LineageEvent.delivered_at.is_(None))
            return session.scalar(query) or 0

    def _update(self, event_id: int, **values: Any) -> None:
        with self._sessions.begin() as session:
            session.execute(update(LineageEvent).where(LineageEvent.id == event_id).values(**values))


def _move_position(session: Session, spool: str, before: Position, after: Position) -> bool:
    row = session.get(LineageOffset, spool, with_for_update=True)
    if row is None:
        if before != Position():
            return False
        session.add(LineageOffset(spool=spool, inode=after.inode, offset=after.offset))
        session.flush()
        return True
    if Position(row.inode, row.offset) != before:
        return False
    row.inode, row.offset = after.inode, after.offset
    return True


def _insert_events(
    session: Session, deployment: str, events: Sequence[tuple[Line, CleanEvent]]
) -> tuple[int, list[tuple[Line, str]]]:
    """All at once; one by one where the database can't hold one of them."""
    if not events:
        return 0, []
    earlier = _events_before(session, [event for _, event in events])
    rows = [(line, _row(deployment, event, earlier.get(event.run_id, []))) for line, event in events]
    try:
        with session.begin_nested():
            return _insert(session, LineageEvent, ("digest",), [row for _, row in rows]), []
    except (StatementError, ValueError) as error:
        if _is_outage(error):
            raise
    new, unstorable = 0, []
    for line, row in rows:
        try:
            with session.begin_nested():
                new += _insert(session, LineageEvent, ("digest",), [row])
        except (StatementError, ValueError) as error:
            if _is_outage(error):
                raise
            unstorable.append((line, f"can't be stored: {str(error)[:_EXCERPT]}"))
    return new, unstorable


def _is_outage(error: Exception) -> bool:
    return isinstance(error, OperationalError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


def _insert(
    session: Session,
    table: type[LineageEvent] | type[LineageQuarantine],
    key: Sequence[str],
    rows: list[dict[str, Any]],
) -> int:
    """Insert the rows whose key is not there yet; gives their number."""
    if not rows:
        return 0
    statement: Insert
    if session.get_bind().dialect.name == "postgresql":
        statement = postgresql.insert(table).on_conflict_do_nothing(index_elements=key)
    else:
        statement = sqlite.insert(table).on_conflict_do_nothing(index_elements=key)
    return len(session.scalars(statement.returning(table.id), rows).all())


def _close_runs(session: Session, cause: LineageEvent) -> int:
    if not tells_of_ends(cause.payload):
        return 0
    made = close_runs(cause.payload, list(session.scalars(_events_of_tasks(cause))))
    events = [(Line(0, b""), clean_event(event)) for event in made]
    return _insert_events(session, cause.deployment, events)[0]


def _events_before(session: Session, events: Iterable[CleanEvent]) -> dict[str, list[Event]]:
    """By run, what the ends among these that name no dataset can take theirs from."""
    found: dict[str, list[Event]] = {}
    bare = set()
    for event in events:
        if event.payload["inputs"] or event.payload["outputs"]:
            found.setdefault(event.run_id, []).append(event.payload)
        elif event.event_type in TERMINAL:
            bare.add(event.run_id)
    if bare:
        for row in session.scalars(select(LineageEvent).where(LineageEvent.run_id.in_(bare))):
            found.setdefault(row.run_id, []).append(row.payload)
    return found


def _row(deployment: str, event: CleanEvent, earlier: list[Event]) -> dict[str, Any]:
    return {
        "digest": event.digest,
        "deployment": deployment,
        "run_id": event.run_id,
        "job_namespace": event.job_namespace,
        "job_name": event.job_name,
        "event_type": event.event_type,
        "event_time": event.event_time,
        "payload": keep_datasets(event.payload, earlier),
        "stored_at": utc_now(),
        "attempts": 0,
    }


def _events_of_tasks(cause: LineageEvent) -> Select[tuple[Event]]:
    dag_run, dag = get_dag_run(cause.payload)
    return select(LineageEvent.payload).where(
        LineageEvent.job_namespace == cause.job_namespace,
        LineageEvent.job_name.startswith(f"{dag}.", autoescape=True),
        LineageEvent.event_time > cause.event_time - _LONGEST_RUN,
        LineageEvent.payload["run"]["facets"]["parent"]["run"]["runId"].as_string() == dag_run,
    )


def _quarantine(spool: str, position: int, digest: str, excerpt: str, error: str) -> dict[str, Any]:
    return {
        "spool": spool,
        "position": position,
        "digest": digest,
        "line_excerpt": clean_excerpt(excerpt),
        "error": clean_excerpt(error),
        "at": utc_now(),
    }
