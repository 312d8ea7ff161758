"""What is ended and what is left alone, with real processes of the test's own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from stack import orphans
from stack.config import StackConfig
from stack.supervisor import STACK_VARIABLE

Spawn = Callable[..., psutil.Process]
SLEEP = "print(flush=True); import time; time.sleep(300)"
# Says when it has a child, and the child when it sleeps.
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {SLEEP!r}], stdout=subprocess.PIPE)
child.stdout.readline()
{SLEEP}
"""
GRANDPARENT = PARENT.replace(repr(SLEEP), repr(PARENT))
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
POLITE = f"""
import os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).touch(), os._exit(0)))
{SLEEP}
"""


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts Python code as a process (of a group of its own), and returns when it has begun."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str = SLEEP, *arguments: str, env: dict[str, str] | None = None) -> psutil.Process:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE, text=True, process_group=0, env={**os.environ, **(env or {})},
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return psutil.Process(process.pid)

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            process.kill()
        process.wait()


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def born(process: psutil.Process) -> dict[int, float]:
    return {process.pid: process.create_time()}


def get_dead(spawn: Spawn) -> psutil.Process:
    """Dead and buried."""
    process = spawn()
    process.create_time()
    process.kill()
    process.wait()
    return process


# --- which are known ---


def test_a_snapshot_has_each_root_and_all_below_it(spawn: Spawn) -> None:
    dead, grandparent, other = get_dead(spawn), spawn(GRANDPARENT), spawn()
    (parent,) = grandparent.children()
    (child,) = parent.children()
    found = orphans.snapshot([dead.pid, grandparent.pid, other.pid])
    assert found == born(grandparent) | born(parent) | born(child) | born(other)


def test_what_is_remembered_is_recalled_while_it_lives(stack_config: StackConfig, spawn: Spawn) -> None:
    stack_config.run_dir.mkdir()
    alive, dead = spawn(), get_dead(spawn)
    orphans.remember(stack_config, born(alive) | {dead.pid: dead.create_time()})
    assert orphans.get_file(stack_config).stat().st_mode & 0o777 == 0o600
    assert orphans.recall(stack_config) == born(alive)


@pytest.mark.parametrize("content", [None, "", "[{", "\x00"])
def test_nothing_is_recalled_from_a_file_that_is_not_there_or_broken(
    stack_config: StackConfig, content: str | None
) -> None:
    stack_config.run_dir.mkdir()
    if content is not None:
        orphans.get_file(stack_config).write_text(content)
    assert orphans.recall(stack_config) == {}


@pytest.mark.parametrize(
    ("apart", "is_same"), [(0.0, True), (0.375, True), (0.5, False), (-0.5, False), (-0.375, True)]
)
def test_the_same_pid_with_another_birth_is_a_stranger(
    stack_config: StackConfig, spawn: Spawn, apart: float, is_same: bool
) -> None:
    """Clocks of one machine tell a birth to a hundredth of a second; a pid comes back after seconds at the earliest."""
    stack_config.run_dir.mkdir()
    process = spawn()
    # As it stands in the file: exact, so that a half is a half.
    created = process.create_time() + apart
    orphans.get_file(stack_config).write_text(json.dumps([{"pid": process.pid, "created": created}]))
    assert (abs(created - process.create_time()) < 0.5) == is_same
    assert (process.pid in orphans.recall(stack_config)) == is_same
    assert orphans.sweep({process.pid: created}, politely=False) == is_same
    assert lives(process) != is_same


def test_a_zombie_is_not_alive(stack_config: StackConfig, spawn: Spawn) -> None:
    stack_config.run_dir.mkdir()
    process = spawn()
    known = born(process)
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    orphans.remember(stack_config, known)
    assert orphans.recall(stack_config) == {}
    assert orphans.sweep(known) == 0


def test_the_mark_of_this_stack_alone_is_looked_for(stack_config: StackConfig, spawn: Spawn) -> None:
    mine = spawn(env={STACK_VARIABLE: str(stack_config.state_dir)})
    spawn(env={STACK_VARIABLE: f"{stack_config.state_dir}2"})
    spawn(env={STACK_VARIABLE: ""})
    spawn()
    assert orphans.find_marked(stack_config) == born(mine)


def test_whoever_looks_for_marks_is_not_found(stack_config: StackConfig, spawn: Spawn) -> None:
    """`make down` from a shell of the stack must not end itself."""
    code = """
from stack import orphans
from stack.config import load_config
found = orphans.find_marked(load_config())
print(len(found), orphans.sweep(orphans.snapshot([__import__("os").getpid()])), flush=True)
"""
    root = os.path.dirname(os.path.dirname(orphans.__file__))
    environment = {
        **os.environ, "PYTHONPATH": root, "STATE_DIR": str(stack_config.state_dir),
        STACK_VARIABLE: str(stack_config.state_dir),
    }  # fmt: skip
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "0 0\n"), done.stderr


# --- the group of a process that died ---


def leave_child(spawn: Spawn) -> tuple[psutil.Process, float, psutil.Process]:
    """A dead leader, its birth, and the child that lives on in its group."""
    leader = spawn(PARENT)
    created = leader.create_time()
    (child,) = leader.children()
    leader.kill()
    leader.wait()
    return leader, created, child


def test_the_group_of_a_dead_leader_is_found(spawn: Spawn) -> None:
    stranger = spawn()
    leader, created, child = leave_child(spawn)
    try:
        assert orphans.find_group(leader.pid, created) == born(child)
        assert stranger.pid not in orphans.find_group(leader.pid, created)
    finally:
        child.kill()


def test_a_leader_that_lives_keeps_its_group(spawn: Spawn) -> None:
    leader = spawn(PARENT)
    assert leader.children()
    assert orphans.find_group(leader.pid, leader.create_time()) == {}


def test_members_older_than_the_leader_are_strangers(spawn: Spawn) -> None:
    leader, _, child = leave_child(spawn)
    try:
        assert orphans.find_group(leader.pid, child.create_time()) == born(child)
        assert orphans.find_group(leader.pid, child.create_time() + 0.001) == {}
    finally:
        child.kill()


def test_a_leader_of_before_the_machines_start_has_no_group(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, created, child = leave_child(spawn)
    try:
        monkeypatch.setattr(psutil, "boot_time", lambda: created)
        assert orphans.find_group(leader.pid, created) == born(child)
        monkeypatch.setattr(psutil, "boot_time", lambda: created + 0.001)
        assert orphans.find_group(leader.pid, created) == {}
    finally:
        child.kill()


# --- the end ---


def test_a_sweep_ends_these_and_all_below_and_nobody_else(spawn: Spawn) -> None:
    parent, other, stranger, dead = spawn(PARENT), spawn(), spawn(), get_dead(spawn)
    (child,) = parent.children()
    assert orphans.sweep(born(parent) | born(other) | {dead.pid: dead.create_time()}) == 3
    assert [lives(process) for process in (parent, child, other, stranger)] == [False, False, False, True]


def test_nothing_to_sweep(spawn: Spawn) -> None:
    assert orphans.sweep({}) == 0


def test_a_sweep_asks_first_and_then_insists(
    spawn: Spawn, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path_factory.mktemp("signs") / "asked"
    polite, stubborn = spawn(POLITE, str(asked)), spawn(STUBBORN)
    monkeypatch.setattr(orphans, "TERM_SECONDS", 1)
    assert orphans.sweep(born(polite) | born(stubborn)) == 2
    assert asked.exists() and not lives(polite) and not lives(stubborn)


def test_an_impolite_sweep_asks_nobody(spawn: Spawn, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A task takes SIGTERM for the wish of its user and cancels its job."""
    asked = tmp_path_factory.mktemp("signs") / "asked"
    polite = spawn(POLITE, str(asked))
    assert orphans.sweep(born(polite), politely=False) == 1
    assert not asked.exists() and not lives(polite)


def test_who_ends_by_itself_in_time_is_not_killed(
    spawn: Spawn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Weaviate and Postgres write their last on SIGTERM."""
    written = tmp_path_factory.mktemp("signs") / "written"
    slow = f"""
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(2), pathlib.Path(sys.argv[1]).touch(), os._exit(0)))
{SLEEP}
"""
    process = spawn(slow, str(written))
    assert orphans.sweep(born(process)) == 1
    assert written.exists() and not lives(process)


def test_waiting_for_an_end_is_bounded(spawn: Spawn) -> None:
    process = spawn()
    orphans.wait_for_end(process.pid, seconds=0.1)
    assert lives(process)
    process.kill()
    orphans.wait_for_end(process.pid)
    assert not lives(process)
    orphans.wait_for_end(process.pid)  # gone already


def test_what_is_remembered_stands_in_the_file_as_it_is_recalled(stack_config: StackConfig) -> None:
    stack_config.run_dir.mkdir()
    orphans.remember(stack_config, {12: 1.25, 34: 2.5})
    assert orphans.get_file(stack_config) == stack_config.state_dir / "run" / "processes.json"
    assert json.loads(orphans.get_file(stack_config).read_text()) == [
        {"pid": 12, "created": 1.25},
        {"pid": 34, "created": 2.5},
    ]


def test_each_is_given_its_time(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    given, wait_all, wait = [], psutil.wait_procs, psutil.Process.wait

    def wait_procs(processes: list[psutil.Process], timeout: float) -> object:
        given.append((len(processes), timeout))
        return wait_all(processes, timeout=timeout)

    monkeypatch.setattr(psutil, "wait_procs", wait_procs)
    assert orphans.sweep(born(spawn())) == 1
    assert orphans.sweep(born(spawn()), politely=False) == 1
    assert given == [(1, 8), (0, 3), (1, 0), (1, 3)]

    def wait_one(process: psutil.Process, timeout: float) -> object:
        given.append((process.pid, timeout))
        return wait(process, timeout=0)

    monkeypatch.setattr(psutil.Process, "wait", wait_one)
    process = spawn()
    orphans.wait_for_end(process.pid)
    assert given[4:] == [(process.pid, 5)] and lives(process)


def test_who_is_gone_or_refuses_to_be_looked_at_hides_nobody_else(
    stack_config: StackConfig, spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, mine = get_dead(spawn), spawn(env={STACK_VARIABLE: str(stack_config.state_dir)})
    leader, created, child = leave_child(spawn)
    monkeypatch.setattr(psutil, "process_iter", lambda: iter([dead, mine, child, psutil.Process()]))
    try:
        assert orphans.find_marked(stack_config) == born(mine)
        assert orphans.find_group(leader.pid, created) == born(child)
    finally:
        child.kill()
