"""Processes that a stack left behind: remembered by pid and birth, found by their mark, and ended.

It knows no component. An environment mark alone would miss programs that overwrite their title, Postgres for one.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from stack.config import StackConfig
from stack.secrets import write_private
from stack.supervisor import STACK_VARIABLE

TERM_SECONDS = 8


def snapshot(roots: Iterable[int]) -> dict[int, float]:
    """Pid -> birth of these processes and all their descendants."""
    found: dict[int, float] = {}
    for pid in roots:
        try:
            process = psutil.Process(pid)
            for member in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    found[member.pid] = member.create_time()
        except psutil.Error:
            continue
    return found


def remember(config: StackConfig, processes: dict[int, float]) -> None:
    """Keep the processes on disk, for a sweep after a crash of supervisor or the machine's patience."""
    rows = [{"pid": pid, "created": created} for pid, created in processes.items()]
    write_private(get_file(config), json.dumps(rows))


def recall(config: StackConfig) -> dict[int, float]:
    """The processes kept on disk that live on (the same pid with another birth is a stranger)."""
    try:
        rows = json.loads(get_file(config).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {row["pid"]: row["created"] for row in rows if _is_same(row["pid"], row["created"])}


def find_marked(config: StackConfig) -> dict[int, float]:
    """Processes whose environment bears this stack's mark."""
    marked: dict[int, float] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(STACK_VARIABLE) == str(config.state_dir):
                marked[process.pid] = process.create_time()
    return marked


def find_group(leader: int, created: float) -> dict[int, float]:
    """What is left of the process group of a leader that has died; empty while it lives, or where its pid is reused."""
    # The kernel gives no pid anew while a group bears it, but for a restart of the machine.
    if psutil.pid_exists(leader) or created < psutil.boot_time():
        return {}
    members: dict[int, float] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if _get_group(process.pid) == leader and process.create_time() >= created:
                members[process.pid] = process.create_time()
    return members


def sweep(processes: dict[int, float], politely: bool = True) -> int:
    """End these processes and their descendants: SIGTERM (if politely), then SIGKILL; returns how many had to be."""
    alive = [pid for pid, created in processes.items() if _is_same(pid, created)]
    victims = []
    for pid, created in snapshot(alive).items():
        if pid != os.getpid() and _is_same(pid, created):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if politely:
                    process.terminate()
                victims.append(process)
    _, stubborn = psutil.wait_procs(victims, timeout=TERM_SECONDS if politely else 0)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=3)
    return len(victims)


def wait_for_end(pid: int, seconds: float = 5) -> None:
    """Give a process that is ending by itself the time to do so."""
    with contextlib.suppress(psutil.Error):
        psutil.Process(pid).wait(timeout=seconds)


def get_file(config: StackConfig) -> Path:
    return config.run_dir / "processes.json"


def _is_same(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        # A zombie is not alive, only not yet buried.
        return abs(process.create_time() - created) < 0.5 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _get_group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0
