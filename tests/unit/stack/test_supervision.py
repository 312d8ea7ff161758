"""supervisor's configuration and the launch files, as they stand on disk."""

import configparser
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from stack import orphans
from stack.component import Component
from stack.config import MAX_SOCKET_PATH, StackConfig, load_config
from stack.declarations import declare
from stack.launch import end_leftovers, main, write_launch_file
from stack.supervisor import (
    Supervisor,
    SupervisorError,
    build_environment,
    get_launch_file,
    get_log_file,
    render_config,
)


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


@pytest.fixture
def deep_config(tmp_path: Path) -> Iterator[StackConfig]:
    """Its socket is in /tmp; nothing of it is left there."""
    config = load_config({"STATE_DIR": str(tmp_path / ("deep" * 30))})
    config.run_dir.mkdir(parents=True)
    config.logs_dir.mkdir()
    yield config
    Supervisor(config).shut_down()
    folder = config.socket.parent
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)


def link_to_another(folder: Path) -> None:
    folder.symlink_to(folder.parent)


def make_open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)


def make_for_another(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can make a folder that belongs to another user")
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize("occupy", [link_to_another, make_open, make_for_another, Path.touch])
def test_a_socket_folder_that_someone_else_made_is_refused(
    deep_config: StackConfig, occupy: Callable[[Path], None]
) -> None:
    folder = deep_config.socket.parent
    occupy(folder)
    with pytest.raises(SupervisorError, match=r"not a private folder of yours.*STATE_DIR"):
        Supervisor(deep_config).apply([])
    assert not deep_config.socket.exists()


def test_whoever_answers_in_a_folder_that_others_can_write_is_not_believed(deep_config: StackConfig) -> None:
    supervisor = Supervisor(deep_config)
    supervisor.apply([])
    assert supervisor.is_alive() and stat.S_IMODE(deep_config.socket.parent.stat().st_mode) == 0o700
    deep_config.socket.parent.chmod(0o777)
    assert not supervisor.is_alive() and supervisor.list_states() == {} and supervisor.get_pid() is None
    deep_config.socket.parent.chmod(0o700)
    assert supervisor.is_alive()


@pytest.mark.parametrize("spelling", ["NO_PROXY", "no_proxy"])
def test_the_users_hosts_without_a_proxy_stay_so_for_every_component(
    stack_config: StackConfig, spelling: str
) -> None:
    given = "models.corp.example, .internal,10.0.0.0/8"
    proxy = "http://proxy.corp.example:3128"
    environ = {"PATH": os.environ["PATH"], "HTTPS_PROXY": proxy, "http_proxy": proxy, spelling: given}
    inherited = build_environment(stack_config, environ)
    for component in declare(stack_config):
        env = {**inherited, **component.env}
        assert env["HTTPS_PROXY"] == env["http_proxy"] == proxy
        for name in ("NO_PROXY", "no_proxy"):
            hosts = env[name].split(",")
            assert hosts[:3] == ["models.corp.example", ".internal", "10.0.0.0/8"], component.name
            assert set(hosts[3:]) == {"127.0.0.1", "localhost", "::1"}


def test_hosts_of_both_spellings_are_kept_and_a_star_stands_alone(stack_config: StackConfig) -> None:
    both = build_environment(
        stack_config, {"NO_PROXY": "a.example,b.example", "no_proxy": "b.example,c.example"}
    )
    assert both["NO_PROXY"].startswith("a.example,b.example,c.example,127.0.0.1")
    assert build_environment(stack_config, {"NO_PROXY": "*"})["no_proxy"] == "*"
    assert build_environment(stack_config, {})["NO_PROXY"] == "127.0.0.1,localhost,::1"


def test_what_would_keep_a_client_from_starting_is_left_out(
    stack_config: StackConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "no_proxy": "fe80::/10,[::1],[::1]:80,fd00::7,models.corp.example:8080",
        "HTTP_PROXY": "http://p",
    }
    env = build_environment(stack_config, given)
    assert env["NO_PROXY"] == "fd00::7,models.corp.example:8080,127.0.0.1,localhost,::1"
    for name in ("HTTP_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, env[name])
    httpx.Client().close()


def test_a_started_component_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the daemon and the launcher, as `make up` starts it."""
    config = load_config({"STATE_DIR": str(tmp_path / "s")})
    for folder in (config.run_dir / "launch", config.logs_dir):
        folder.mkdir(parents=True)
    monkeypatch.setenv("no_proxy", "models.corp.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.corp.example:3128")
    program = "import os; print(os.environ['NO_PROXY'], os.environ['no_proxy'], os.environ['HTTPS_PROXY'], flush=True)"
    component = Component("one", (sys.executable, "-c", program), one_shot=True)
    write_launch_file(get_launch_file(config, "one"), component.command, {}, tmp_path)
    supervisor = Supervisor(config)
    try:
        supervisor.apply([component])
        supervisor.start("one")
        deadline = time.monotonic() + 20
        while supervisor.list_states()["one"].state != "EXITED" and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        supervisor.shut_down()
    hosts = "models.corp.example,127.0.0.1,localhost,::1"
    assert get_log_file(config, "one").read_text() == f"{hosts} {hosts} http://proxy.corp.example:3128\n"


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


def test_a_launch_file_says_the_same_in_one_way(tmp_path: Path) -> None:
    """Where an update wrote it otherwise, a start would restart all that runs."""
    path, folder = tmp_path / "one.json", Path("/folder/é")
    assert write_launch_file(path, ("run", "a b"), {"Z": "1", "A": "é"}, folder) is True
    assert path.read_text() == (
        '{\n "command": [\n  "run",\n  "a b"\n ],\n "env": {\n  "A": "\\u00e9",\n  "Z": "1"\n },\n'
        ' "folder": "/folder/\\u00e9"\n}'
    )
    assert write_launch_file(path, ["run", "a b"], {"A": "é", "Z": "1"}, folder) is False
    assert write_launch_file(path, ["run", "a", "b"], {"A": "é", "Z": "1"}, folder) is True


@pytest.fixture
def left_behind(tmp_path: Path) -> Iterator[tuple[dict[str, float], psutil.Process]]:
    """What was noted of a process that has died, and its child, which lives."""
    command = [sys.executable, "-c", PARENT]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0, cwd=tmp_path)
    child = psutil.Process(int(parent.stdout.readline()))  # type: ignore[union-attr]
    note = {"pid": parent.pid, "created": psutil.Process(parent.pid).create_time()}
    parent.kill()
    parent.wait()
    yield note, child
    with contextlib.suppress(psutil.Error):
        child.kill()


def test_what_was_left_is_ended_before_the_process_is_noted_and_becomes_its_command(
    tmp_path: Path,
    left_behind: tuple[dict[str, float], psutil.Process],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    note, child = left_behind
    (tmp_path / "work").mkdir()
    file, noted = tmp_path / "one.json", tmp_path / "one.pid"
    write_launch_file(file, ["program", "a b"], {"KEY": "1", "OTHER": "given"}, tmp_path / "work")
    noted.write_text(json.dumps(note))
    monkeypatch.setenv("OTHER", "inherited")
    monkeypatch.setattr(sys, "argv", ["stack.launch", str(file)])
    monkeypatch.chdir(tmp_path)
    became = []

    def become(program: str, command: list[str], env: dict[str, str]) -> None:
        became.append((program, command, env, Path.cwd(), os.umask(0o022)))

    def ask(process: psutil.Process) -> None:
        raise AssertionError("a task would cancel its job")

    monkeypatch.setattr(os, "execvpe", become)  # it would replace the tests
    monkeypatch.setattr(psutil.Process, "terminate", ask)
    environment = dict(os.environ)
    inherited = os.umask(0o022)
    try:
        main()
        assert capsys.readouterr().out == "ended 1 processes that outlived their parent\n"
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        own = {"pid": os.getpid(), "created": psutil.Process().create_time()}
        assert json.loads(noted.read_text()) == own and stat.S_IMODE(noted.stat().st_mode) == 0o600
        main()  # nothing is left of a process that lives
        assert capsys.readouterr().out == ""
    finally:
        os.umask(inherited)
    env = {**environment, "KEY": "1", "OTHER": "given"}
    assert became == [("program", ["program", "a b"], env, tmp_path / "work", 0o077)] * 2


@pytest.mark.parametrize("content", [None, "", "{", "{}", '{"pid": 1}', '{"created": 1.0}'])
def test_a_note_that_cannot_be_read_is_replaced_and_ends_nobody(tmp_path: Path, content: str | None) -> None:
    noted = tmp_path / "one.pid"
    if content is not None:
        noted.write_text(content)
    assert end_leftovers(noted) == 0
    assert json.loads(noted.read_text()) == {"pid": os.getpid(), "created": psutil.Process().create_time()}
