"""supervisor's configuration and the launch files, as they stand on disk."""

import configparser
import stat
from pathlib import Path

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
