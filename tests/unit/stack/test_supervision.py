"""supervisor's configuration and the launch files, as they stand on disk."""

import configparser
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil

from stack import orphans
from stack.component import Component
from stack.config import MAX_SOCKET_PATH, StackConfig, load_config
from stack.launch import write_launch_file
from stack.supervisor import render_config


def parse(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


def test_percent_signs_are_doubled(tmp_path: Path) -> None:
    config = load_config({"STATE_DIR": str(tmp_path / "100%")})
    parsed = parse(render_config(config, [Component("one", ("true",))], is_root=False))
    assert "100%%" in parsed["program:one"]["command"]


def test_one_shots_run_once_and_services_are_restarted(stack_config: StackConfig) -> None:
    components = [
        Component("service", ("true",), stop_seconds=7),
        Component("step", ("true",), one_shot=True),
    ]
    parsed = parse(render_config(stack_config, components, is_root=True))
    assert parsed["program:service"]["autorestart"] == "true"
    assert parsed["program:service"]["stopwaitsecs"] == "7"
    assert parsed["program:step"]["autorestart"] == "false"
    assert parsed["program:step"]["startsecs"] == "0"
    assert parsed["supervisord"]["user"] == "root"
    assert "user" not in parse(render_config(stack_config, components, is_root=False))["supervisord"]


def test_a_deep_state_folder_has_its_socket_elsewhere(tmp_path: Path) -> None:
    config = load_config({"STATE_DIR": str(tmp_path / ("deep" * 30))})
    assert len(str(config.socket)) <= MAX_SOCKET_PATH


def test_a_launch_file_is_private_and_tells_of_changes(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    assert write_launch_file(path, ["true"], {"KEY": "1"}, tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not write_launch_file(path, ["true"], {"KEY": "1"}, tmp_path)
    assert write_launch_file(path, ["true"], {"KEY": "2"}, tmp_path)


def launch(file: Path) -> subprocess.Popen[str]:
    """As supervisor does: in a process group of its own. Its first line of output is read."""
    command = [sys.executable, "-m", "stack.launch", str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)


def wait_for_end(process: psutil.Process) -> bool:
    try:
        process.wait(timeout=10)
    except psutil.TimeoutExpired:
        return False
    return True


PARENT = """
import os, pathlib, signal, sys, time
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, lambda *_: pathlib.Path("on_kill").touch())
while True:
    if child:
        print(child, flush=True)
    time.sleep(300)
"""


def test_a_killed_process_is_restarted_without_the_children_of_its_former_self(tmp_path: Path) -> None:
    write_launch_file(tmp_path / "one.json", [sys.executable, "-c", PARENT], {}, tmp_path)
    first = launch(tmp_path / "one.json")
    orphan = psutil.Process(int(first.stdout.readline()))  # type: ignore[union-attr]
    time.sleep(0.2)
    first.kill()
    first.wait()
    assert orphan.is_running()
    second = launch(tmp_path / "one.json")
    try:
        assert second.stdout.readline() == "ended 1 processes that outlived their parent\n"  # type: ignore[union-attr]
        assert wait_for_end(orphan)
        assert not (tmp_path / "on_kill").exists(), "a task would have cancelled its job"
        assert int(second.stdout.readline()) != orphan.pid  # type: ignore[union-attr]
    finally:
        os.killpg(second.pid, signal.SIGKILL)
        second.wait()


def test_a_launch_leaves_strangers_alone(tmp_path: Path) -> None:
    """The pid of the last launch may belong to another process by now."""
    write_launch_file(tmp_path / "one.json", ["true"], {}, tmp_path)
    stranger = subprocess.Popen(["sleep", "300"], process_group=0)
    try:
        note = {"pid": stranger.pid, "created": time.time() - 1000}
        (tmp_path / "one.pid").write_text(json.dumps(note))
        assert launch(tmp_path / "one.json").wait(timeout=20) == 0
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_note_from_before_the_machines_restart_means_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0, cwd=tmp_path)
    child = psutil.Process(int(parent.stdout.readline()))  # type: ignore[union-attr]
    parent.kill()
    parent.wait()
    try:
        assert child.pid in orphans.find_group(parent.pid, child.create_time() - 1)
        assert orphans.find_group(parent.pid, psutil.boot_time() - 1) == {}
    finally:
        child.kill()
