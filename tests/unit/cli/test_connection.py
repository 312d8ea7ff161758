"""Which stack a command talks to: the one of STATE_DIR and PORT_OFFSET, unless a GHOSTWRITER_* variable says other."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.connection import connect, load_settings
from cli.output import CommandError
from stack.config import ROOT


def test_the_default_stack() -> None:
    settings = load_settings({})
    assert settings.serving_url == "http://127.0.0.1:7860"
    assert settings.state_dir.name == ".state"
    assert settings.state_dir.is_absolute()


def test_state_dir_and_port_offset_name_a_second_stack(tmp_path: Path) -> None:
    settings = load_settings({"STATE_DIR": str(tmp_path), "PORT_OFFSET": "100"})
    assert settings.serving_url == "http://127.0.0.1:7960"
    assert settings.training_url == "http://127.0.0.1:8181"
    assert settings.mlflow_url == "http://127.0.0.1:5101"
    assert settings.secrets_dir == tmp_path.resolve() / "secrets"


def test_an_explicit_variable_wins(tmp_path: Path) -> None:
    settings = load_settings({"PORT_OFFSET": "100", "GHOSTWRITER_SERVING_URL": "https://desk.example"})
    assert settings.serving_url == "https://desk.example"
    assert settings.mlflow_url == "http://127.0.0.1:5101"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"PORT_OFFSET": "many"}, "PORT_OFFSET"),
        ({"GHOSTWRITER_REQUEST_TIMEOUT": "soon"}, "GHOSTWRITER_REQUEST_TIMEOUT"),
    ],
)
def test_a_bad_value_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(CommandError, match=named):
        load_settings(environ)


def test_connecting_needs_nobody_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    connection = connect(load_settings({"STATE_DIR": str(tmp_path)}))
    assert connection.list_jobs() == [] or connection.list_jobs()


def test_no_proxy_of_the_shell_stands_before_this_machine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.5)
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        environ = {
            **os.environ, "STATE_DIR": str(tmp_path), "GHOSTWRITER_MLFLOW_URL": "http://127.0.0.1:9",
            "HTTP_PROXY": url, "http_proxy": url, "NO_PROXY": "models.corp.example", "no_proxy": "",
        }  # fmt: skip
        command = [sys.executable, "-m", "cli", "models", "list", "--json"]
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
        assert "can't be reached" in done.stderr
        with pytest.raises(TimeoutError):
            proxy.accept()
