"""What a user does with the stack: up, down, status, info, logs, clean.

It knows no terminal: callers hand in a report and print what comes back.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Thread
from time import sleep, time
from typing import Any

from shared.retrieval_settings import load_retrieval_settings
from shared.voice import load_voice
from stack import driver, first_post, first_run, marquez, preflight, record, state_folder, weaviate_binary
from stack.component import Component, Unavailable, select
from stack.config import StackConfig
from stack.declarations import build_settings, declare_all
from stack.postgres_home import remove_outside_folder
from stack.report import Report
from stack.secrets import AIRFLOWS, ensure_secrets
from stack.supervisor import ProcessState, Supervisor, get_log_file


@dataclass(frozen=True)
class ComponentStatus:
    """One component as it is now: `ready`, `starting`, `stopped`, `failed`, `unavailable` or `external`."""

    name: str
    state: str
    pid: int = 0
    seconds: float = 0.0
    url: str = ""
    detail: str = ""


@dataclass(frozen=True)
class UpResult:
    """What a start did."""

    started: bool
    """False where all was ready already."""
    post: dict[str, Any] | None = None
    """The first post, where this start wrote it."""


def up(
    config: StackConfig, only: Sequence[str] = (), deployment: str | None = None, *, report: Report
) -> UpResult:
    """Start everything, `only` these with what they need, or a `deployment` with what it uses too.

    A start of everything also sees the first work through: Dags unpaused, knowledge ingested, a first post.
    """
    state_folder.check_usable(config)
    if not config.skip_checks:
        preflight.check_disk(config.state_dir)
    preflight.check_folder(config.state_dir)
    state_folder.mark(config)
    if not only and deployment in (None, "serving", "training"):
        # A mistake is told before anything is started.
        load_voice(config.content_dir / "voice.toml")
        load_retrieval_settings(config.content_dir / "retrieval.toml")
    with preflight.hold_lock(config.state_dir / "lock", "make up"):
        prepare(config)
        search = None
        if deployment or not only or "weaviate" in only:
            weaviate_binary.ensure_binary(config, report.progress)
        if not only and not deployment:
            search = Thread(target=marquez.fetch, args=[config], daemon=True)
            search.start()
        declared = _declare(config)
        if deployment:
            selected = select(declared, frozenset({deployment}))
        else:
            selected = select(declared, frozenset(only), with_used=False) if only else declared
        started = driver.start(config, declared, selected, report)
        if only:
            return UpResult(started)
        for name in [deployment] if deployment else ["training", "ingest"]:
            if name in first_run.DAGS:
                first_run.unpause_dags(config, name, report)
        if deployment:
            return UpResult(started)
        first_run.see_first_ingestion(config, report)
        post = first_post.write_first_post(config, report)
        _start_late_finds(config, search, report)
        return UpResult(started, post)


def _start_late_finds(config: StackConfig, search: Thread | None, report: Report) -> None:
    """Marquez may have been found while the rest started: it joins then."""
    if search is not None:
        search.join(timeout=marquez.MAVEN_SECONDS if search.is_alive() else 0)
    declared = _declare(config)
    driver.start(config, declared, declared, report)


def _declare(config: StackConfig) -> tuple[Component, ...]:
    """What is to run from now on, kept for those who look at it or stop it."""
    declared = declare_all(config)
    record.write(config, declared, build_settings(config))
    return tuple(one for one in declared if isinstance(one, Component))


def _list_declared(config: StackConfig) -> tuple[Component | Unavailable, ...]:
    """What was started and not stopped since, as it was started; else what a start would declare today."""
    started = record.read(config)
    return started.components if started else declare_all(config)


def get_settings(config: StackConfig) -> dict[str, str]:
    """`shared.settings` of what was started and not stopped since; else those that a start would give today."""
    started = record.read(config)
    return dict(started.settings) if started else build_settings(config)


def down(config: StackConfig, *, report: Report) -> None:
    """Stop everything; data is kept."""
    if not state_folder.was_started(config.state_dir):
        report.say(f"nothing was started in {config.state_dir}")
        return
    with preflight.hold_lock(config.state_dir / "lock", "make down"):
        prepare(config)
        declared = [one for one in _list_declared(config) if isinstance(one, Component)]
        swept = driver.stop(config, declared, report)
        record.forget(config)
        if swept:
            report.say(f"ended {swept} processes that had not ended by themselves")


def status(config: StackConfig) -> list[ComponentStatus]:
    """Every component as it is now, those included that this machine cannot have; none before the first start."""
    if not state_folder.was_started(config.state_dir):
        return []
    prepare(config)
    states = Supervisor(config).list_states()
    declared = _list_declared(config)
    running = [one for one in declared if isinstance(one, Component) and not one.one_shot]
    ready = driver.find_ready(config, running, states)
    rows = []
    for one in declared:
        if isinstance(one, Unavailable):
            state = "external" if one.external else "unavailable"
            rows.append(ComponentStatus(one.name, state, url=one.url, detail=one.reason))
        elif not one.one_shot:
            rows.append(_describe_state(one, states.get(one.name), ready[one.name]))
    return rows


def _describe_state(component: Component, process: ProcessState | None, is_ready: bool) -> ComponentStatus:
    if process is None or not process.is_alive:
        failed = process is not None and process.state in {"FATAL", "BACKOFF"}
        return ComponentStatus(component.name, "failed" if failed else "stopped", url=component.url)
    state = "ready" if is_ready else "starting"
    return ComponentStatus(component.name, state, process.pid, time() - process.started_at, component.url)


def info(config: StackConfig) -> list[dict[str, Any]]:
    """Name, url, state, user and password file of every component, for programs."""
    rows = status(config)
    if not rows:
        return []
    declared = {one.name: one for one in _list_declared(config)}
    return [describe(declared[row.name], row) for row in rows]


def describe(component: Component | Unavailable, row: ComponentStatus) -> dict[str, Any]:
    """One component as `stack info --json` prints it."""
    described: dict[str, Any] = {
        "name": row.name,
        "url": row.url,
        "state": row.state,
        "user": "",
        "password_file": "",
        "pid": row.pid or None,
    }
    if isinstance(component, Component):
        described["user"] = component.user
        described["password_file"] = str(component.password_file or "")
        if component.api_key_file:
            described["api_key_file"] = str(component.api_key_file)
    return described


def logs(
    config: StackConfig, name: str | None = None, follow: bool = False, lines: int = 50
) -> Iterator[str]:
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
    """Stop everything and remove the state folder, where it is ours; asking is the caller's duty."""
    state_folder.check_removable(config)
    down(config, report=report)
    remove_outside_folder(config.state_dir)
    if config.state_dir.is_dir():
        shutil.rmtree(config.state_dir)
        report.say(f"removed {config.state_dir}")


def prepare(config: StackConfig) -> None:
    """Folders and secrets; quick and harmless to repeat."""
    # The OpenLineage file transport makes no folder, and loses the event where there is none.
    spools = [config.spool_dir / deployment for deployment in AIRFLOWS]
    for folder in (config.logs_dir, config.run_dir / "launch", *spools):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (config.logs_dir, config.run_dir):
        folder.chmod(0o700)
    ensure_secrets(config.secrets_dir)
