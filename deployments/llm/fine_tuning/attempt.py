"""One attempt at a job: the trainer's process, its lineage run, and a note on disk that outlives the server.

It knows no job store. The note is there while the attempt is open, so what a dead server left can be ended.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import psutil
from pydantic import BaseModel, Field

from deployments.llm.durable_files import write_durably
from deployments.llm.records import UnreadableRecordError, read_record

log = logging.getLogger(__name__)

_NOTE: Final = "process.json"
_POLITE_SECONDS: Final = 1.0
"""Who cancels or pauses may expect the trainer to be gone within two seconds."""
_STOP_SECONDS: Final = 5.0


class _Note(BaseModel):
    pid: int = Field(gt=0, lt=2**31)
    create_time: float
    run_id: str | None = None


class Leftover(NamedTuple):
    """An attempt that a dead server left: its lineage run, and when it began, in Unix seconds."""

    run_id: str | None
    began: float


class Attempt:
    """A trainer that was started; `run_id` is a UUID of its own. `step` is that of the checkpoint it began at."""

    def __init__(self, job_id: str, process: subprocess.Popen[bytes], step: int | None) -> None:
        self.job_id, self.run_id, self.step = job_id, str(uuid4()), step
        self._process, self._started = process, time.monotonic()

    @property
    def pid(self) -> int:
        """The trainer's process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while the trainer runs."""
        return self._process.poll()

    @property
    def seconds(self) -> float:
        """How long ago it started."""
        return time.monotonic() - self._started

    def end(self) -> None:
        """Ends the process, politely first; where it does not listen, with all that it started."""
        if self.exit_code is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_POLITE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # it leads a session of its own
            self._process.wait(_STOP_SECONDS)


def start_attempt(
    job_id: str,
    directory: Path,
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    nice: int,
    step: int | None,
) -> Attempt:
    """Starts the trainer on a job's folder and leaves the note there. Raises OSError or psutil.Error."""
    with (directory / "trainer.log").open("ab") as output:
        process = subprocess.Popen(
            [*command, str(directory.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    attempt = Attempt(job_id, process, step)
    try:
        known = psutil.Process(process.pid)
        note = _Note(pid=process.pid, create_time=known.create_time(), run_id=attempt.run_id)
        write_durably(directory / _NOTE, note.model_dump_json().encode())
    except BaseException:
        attempt.end()
        raise
    try:
        known.nice(max(nice, known.nice()))
    except psutil.Error:
        log.warning("The trainer's priority could not be lowered")
    return attempt


def end_leftover(directory: Path) -> Leftover | None:
    """Ends the attempt that a dead server left open; None where there is none.

    A note that can't be read is set aside; its trainer ends itself when it sees that its server is gone.
    """
    path = directory / _NOTE
    try:
        note = read_record(path, _Note)
    except UnreadableRecordError as error:
        log.error("A note is renamed to %s.unreadable: %s", path.name, error)
        path.replace(path.with_name(f"{path.name}.unreadable"))
        return None
    if note is None:
        return None
    try:
        process = psutil.Process(note.pid)
        # The process id alone could be someone else's by now.
        if abs(process.create_time() - note.create_time) < 1 and process.pid != os.getpid():
            log.warning("Ending process %d, which a former server left", process.pid)
            if os.getpgid(note.pid) == note.pid:  # with all that it started
                os.killpg(note.pid, signal.SIGKILL)
            process.kill()
            process.wait(_STOP_SECONDS)
    except (psutil.Error, ProcessLookupError):
        pass
    return Leftover(note.run_id, note.create_time)


def forget_attempt(directory: Path) -> None:
    """Takes the note away, once the end of the attempt is known to everyone."""
    (directory / _NOTE).unlink(missing_ok=True)
