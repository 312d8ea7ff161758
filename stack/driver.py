"""Starts and stops components in the order of their needs, side by side where nothing needs anything.

It knows no component in particular: declarations say what they are, supervisor runs them, probes look at them.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack import orphans, preflight
from stack.component import Component
from stack.config import StackConfig
from stack.launch import write_launch_file
from stack.probes import is_ready
from stack.report import Report
from stack.stamps import get_stamp
from stack.supervisor import ProcessState, Supervisor, get_launch_file, get_log_file

POLL_SECONDS = 0.2
LOG_LINES = 15


class StartError(RuntimeError):
    """A component did not become ready; the message names it, its last log lines, the log, and what to do."""


def is_done(config: StackConfig, component: Component, state: ProcessState | None) -> bool:
    """Whether this one-shot need not run (again)."""
    if component.stamp:
        stamp = get_stamp(config.state_dir, component.name, component.database)
        return stamp.is_file() and stamp.read_text() == component.stamp
    return state is not None and state.state == "EXITED" and state.exit_status == 0


def find_ready(
    config: StackConfig, components: Iterable[Component], states: Mapping[str, ProcessState]
) -> dict[str, bool]:
    """Name -> whether it is ready now; looks at all side by side."""

    def look(component: Component) -> bool:
        state = states.get(component.name)
        if component.one_shot:
            return is_done(config, component, state)
        return state is not None and state.is_alive and (component.probe is None or is_ready(component.probe))

    components = list(components)
    with ThreadPoolExecutor(max_workers=max(1, len(components))) as pool:
        return dict(zip([c.name for c in components], pool.map(look, components), strict=True))


def start(
    config: StackConfig, declared: Sequence[Component], selected: Sequence[Component], report: Report
) -> bool:
    """Bring the selected components up; returns False where all were ready already."""
    supervisor = Supervisor(config)
    supervisor.finish_shutdown()
    states = supervisor.list_states()
    if not states:
        swept = orphans.sweep({**orphans.recall(config), **orphans.find_marked(config)})
        if swept:
            report.say(f"ended {swept} processes that an earlier run left behind")
    changed = {
        component.name
        for component in declared
        if write_launch_file(
            get_launch_file(config, component.name), component.command, component.env, config.root
        )
    }
    restarting = [
        c.name for c in declared if c.name in changed and c.name in states and states[c.name].is_alive
    ]
    if restarting:
        report.say(f"settings changed: restarting {', '.join(restarting)}")
        supervisor.stop(restarting)
        states = supervisor.list_states()
    known = {component.name for component in declared}
    gone = [name for name, state in states.items() if state.is_alive and name not in known]
    if gone:
        report.say(f"not among today's settings: stopping {', '.join(gone)}")
    elif all(find_ready(config, selected, states).values()):
        return False
    idle = [c for c in selected if not (c.name in states and states[c.name].is_alive)]
    preflight.check_ports({setting: port for component in idle for setting, port in component.ports.items()})
    if not config.skip_checks and len(idle) == len(selected) == len(declared):
        preflight.check_memory()
    supervisor.apply(declared)
    _Start(config, supervisor, selected, report).run()
    remember_processes(config, supervisor)
    return True


def stop(config: StackConfig, declared: Sequence[Component], report: Report) -> int:
    """Stop everything, those that need others first; returns how many processes had to be swept."""
    supervisor = Supervisor(config)
    remembered = {**orphans.recall(config), **orphans.find_marked(config)}
    daemon = supervisor.get_pid()
    if daemon is not None:
        remembered |= orphans.snapshot([daemon])
        levels = plan_stop_levels(declared)
        # What nobody declared may need anything that was.
        unknown = supervisor.list_states().keys() - {name for level in levels for name in level}
        for level in [sorted(unknown), *levels]:
            states = supervisor.list_states()
            alive = [
                name
                for name in level
                if name in states and states[name].state not in {"STOPPED", "EXITED", "FATAL"}
            ]
            if alive:
                report.say(f"stopping {', '.join(alive)}")
                supervisor.stop(alive)
        supervisor.shut_down()
        orphans.wait_for_end(daemon)
    swept = orphans.sweep(remembered)
    orphans.get_file(config).unlink(missing_ok=True)
    return swept


def plan_stop_levels(components: Sequence[Component]) -> list[list[str]]:
    """Names in the order of stopping; those of one level stop side by side."""
    by_name = {component.name: component for component in components}
    depths: dict[str, int] = {}

    def measure(name: str) -> int:
        if name not in depths:
            component = by_name[name]
            below = [other for other in (*component.needs, *component.uses) if other in by_name]
            depths[name] = 1 + max((measure(other) for other in below), default=0)
        return depths[name]

    for name in by_name:
        measure(name)
    return [
        [n for n in by_name if depths[n] == depth] for depth in sorted(set(depths.values()), reverse=True)
    ]


def remember_processes(config: StackConfig, supervisor: Supervisor) -> None:
    """Note on disk what runs, for a later sweep."""
    daemon = supervisor.get_pid()
    if daemon is not None:
        orphans.remember(config, orphans.snapshot([daemon]))


class _Start:
    """One start: which components wait, which are on their way, which are ready."""

    def __init__(
        self, config: StackConfig, supervisor: Supervisor, selected: Sequence[Component], report: Report
    ) -> None:
        self._config = config
        self._supervisor = supervisor
        self._selected = selected
        self._report = report
        self._waiting = {component.name: component for component in selected}
        self._starting: dict[str, float] = {}
        self._ready: set[str] = set()

    def run(self) -> None:
        self._report.begin([component.name for component in self._selected])
        try:
            while len(self._ready) < len(self._selected):
                states = self._supervisor.list_states()
                self._launch(states)
                self._look(states)
                time.sleep(POLL_SECONDS)
        finally:
            self._report.end()

    def _launch(self, states: Mapping[str, ProcessState]) -> None:
        for name, component in list(self._waiting.items()):
            if not self._ready.issuperset(need for need in component.needs if self._is_selected(need)):
                continue
            del self._waiting[name]
            state = states.get(name)
            if component.one_shot and is_done(self._config, component, state):
                self._finish(component, 0.0)
                continue
            self._starting[name] = time.monotonic()
            if not (state and state.is_alive):
                self._supervisor.start(name)
                self._report.update(name, "running" if component.one_shot else "starting", 0.0)

    def _look(self, states: Mapping[str, ProcessState]) -> None:
        on_their_way = [c for c in self._selected if c.name in self._starting]
        states = self._supervisor.list_states()
        looks = find_ready(self._config, [c for c in on_their_way if not c.one_shot], states)
        for component in on_their_way:
            seconds = time.monotonic() - self._starting[component.name]
            state = states[component.name]
            finished = component.one_shot and state.state == "EXITED"
            if looks.get(component.name) or (finished and state.exit_status == 0):
                del self._starting[component.name]
                self._finish(component, seconds)
            elif finished:
                self._fail(component, f"ended with exit status {state.exit_status}", seconds)
            elif state.state == "FATAL":
                self._fail(component, f"stopped again and again ({state.error or 'see its log'})", seconds)
            elif seconds > component.start_seconds:
                self._fail(component, f"was not ready after {component.start_seconds:.0f} s", seconds)

    def _finish(self, component: Component, seconds: float) -> None:
        if component.stamp:
            stamp = get_stamp(self._config.state_dir, component.name, component.database)
            stamp.write_text(component.stamp)
        self._ready.add(component.name)
        self._report.update(component.name, "ready", seconds)

    def _fail(self, component: Component, cause: str, seconds: float) -> None:
        self._report.update(component.name, "failed", seconds)
        if component.optional:
            self._report.say(f"{component.name} {cause}; the stack goes on without it")
            del self._starting[component.name]
            self._ready.add(component.name)
            return
        log = get_log_file(self._config, component.name)
        lines = "\n".join(f"  | {line}" for line in read_tail(log, LOG_LINES))
        advice = component.hint or f"read the log, then run it again (make logs S={component.name})"
        raise StartError(
            f"{component.name} {cause}. Its last lines:\n{lines}\n  log: {log}\n  to do: {advice}"
        )

    def _is_selected(self, name: str) -> bool:
        return any(component.name == name for component in self._selected)


def read_tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 200 * lines - 4096))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []
