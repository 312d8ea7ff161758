"""What a user does with the stack: up, down, status, info, logs, clean.

It knows no terminal: callers hand in a report and print what comes back.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import sleep
from typing import Any

from stack import driver, preflight
from stack.component import Component, Unavailable, select
from stack.config import StackConfig
from stack.declarations import declare
from stack.report import Report
from stack.secrets import ensure_secrets
from stack.supervisor import Supervisor, get_log_file


@dataclass(frozen=True)
class ComponentStatus:
    """One component as it is now: `ready`, `starting`, `stopped`, `failed`, `unavailable` or `external`."""

    name: str
    state: str
    pid: int = 0
    seconds: float = 0.0
    url: str = ""
    detail: str = ""


def up(config: StackConfig, only: Sequence[str] = (), deployment: str | None = None, *, report: Report) -> bool:
    """Start everything, `only` these with what they need, or a `deployment` with what it uses too.

    Returns False where all was ready already.
    """
    preflight.check_disk(config.state_dir)
    with preflight.hold_lock(config.state_dir / "lock", "make up"):
        prepare(config)
        declared = declare(config)
        if deployment:
            selected = select(declared, frozenset({deployment}))
        else:
            selected = select(declared, frozenset(only), with_used=False) if only else declared
        return driver.start(config, declared, selected, report)


def down(config: StackConfig, *, report: Report) -> None:
    """Stop everything; data is kept."""
    if not config.state_dir.is_dir():
        return
    with preflight.hold_lock(config.state_dir / "lock", "make down"):
        prepare(config)
        swept = driver.stop(config, declare(config), report)
        if swept:
            report.say(f"ended {swept} processes that had not ended by themselves")


def status(config: StackConfig) -> list[ComponentStatus]:
    """Every component as it is now."""
    if not config.state_dir.is_dir():
        return []
    prepare(config)
    declared = declare(config)
    states = Supervisor(config).list_states()
    ready = driver.find_ready(config, declared, states)
    rows = []
    for component in declared:
        if component.one_shot:
            continue
        state = states.get(component.name)
        if ready[component.name]:
            shown = "ready"
        elif state and state.state in {"FATAL", "BACKOFF"}:
            shown = "failed"
        else:
            shown = "starting" if state and state.is_alive else "stopped"
        rows.append(ComponentStatus(component.name, shown, state.pid if state else 0, url=component.url))
    return rows


def info(config: StackConfig) -> list[dict[str, Any]]:
    """Name, url, state, user and password file of every component, for programs."""
    declared = {component.name: component for component in declare(config)} if config.secrets_dir.is_dir() else {}
    return [describe(declared.get(row.name), row) for row in status(config)]


def describe(component: Component | Unavailable | None, row: ComponentStatus) -> dict[str, Any]:
    """One component as `stack info --json` prints it."""
    described: dict[str, Any] = {"name": row.name, "url": row.url, "state": row.state, "user": "", "password_file": ""}
    if isinstance(component, Component):
        described["user"] = component.user
        described["password_file"] = str(component.password_file or "")
        if component.api_key_file:
            described["api_key_file"] = str(component.api_key_file)
    return described


def logs(config: StackConfig, name: str | None = None, follow: bool = False, lines: int = 50) -> Iterator[str]:
    """The last lines of a component's log (of every log without a name), then what is added while `follow`."""
    paths = [get_log_file(config, name)] if name else sorted(config.logs_dir.glob("*.log"))
    missing = [path for path in paths if not path.is_file()]
    if missing:
        known = ", ".join(sorted(path.stem for path in config.logs_dir.glob("*.log"))) or "none yet"
        raise ValueError(f"there is no log of {name}; there are: {known}")
    positions = {}
    for path in paths:
        prefix = "" if name else f"{path.stem} | "
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in deque(file, maxlen=lines if name else 5):
                yield prefix + line.rstrip("\n")
            positions[path] = file.tell()
    while follow:
        for path in paths:
            size = path.stat().st_size if path.exists() else 0
            if size < positions[path]:
                positions[path] = 0
            if size > positions[path]:
                with path.open(encoding="utf-8", errors="replace") as file:
                    file.seek(positions[path])
                    for line in file:
                        yield ("" if name else f"{path.stem} | ") + line.rstrip("\n")
                    positions[path] = file.tell()
        sleep(0.3)


def clean(config: StackConfig, *, report: Report) -> None:
    """Stop everything and remove the state folder; asking is the caller's duty."""
    down(config, report=report)
    shutil.rmtree(config.state_dir, ignore_errors=False) if config.state_dir.is_dir() else None
    report.say(f"removed {config.state_dir}")


def prepare(config: StackConfig) -> None:
    """Folders and secrets; quick and harmless to repeat."""
    for folder in (config.logs_dir, config.run_dir / "launch", config.spool_dir):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (config.logs_dir, config.run_dir):
        folder.chmod(0o700)
    ensure_secrets(config.secrets_dir)
