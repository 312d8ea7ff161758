"""supervisor as the stack uses it: its configuration, its daemon, and its interface over a Unix socket.

It knows no component but by name; each program becomes what its launch file says.
"""

import contextlib
import os
import stat
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.component import Component
from stack.config import StackConfig, plan_no_proxy
from stack.secrets import write_private

DAEMON_SECONDS = 15
SHUTDOWN_SECONDS = 20
# Above the time in which a broken component usually crashes: a crash after it restarts at once and for ever.
START_SECONDS = 15
START_RETRIES = 3
# Of the caller's environment components see what names the machine, nothing that could steer them by accident.
KEPT_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
)  # fmt: skip
STACK_VARIABLE = "GHOSTWRITER_STACK"
"""Marks every process of a stack with its state folder."""


class SupervisorError(RuntimeError):
    """supervisor itself could not be started or reached."""


class RefusedError(SupervisorError):
    """supervisor answered that it can't; the message holds its reason's name."""


class ShuttingDownError(SupervisorError):
    """supervisor answers nothing any more but this, until it is gone."""


@dataclass(frozen=True)
class ProcessState:
    """What supervisor says of one program: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN."""

    name: str
    state: str
    pid: int
    started_at: float
    exit_status: int
    error: str

    @property
    def is_alive(self) -> bool:
        return self.state in {"STARTING", "RUNNING"} and self.pid > 0


def render_config(config: StackConfig, components: Iterable[Component], is_root: bool) -> str:
    """supervisord's configuration file; `%` starts an expansion there, so it is doubled."""

    def quote(value: object) -> str:
        return str(value).replace("%", "%%")

    sections = [
        f"""[unix_http_server]
file = {quote(config.socket)}
chmod = 0700

[supervisord]
logfile = {quote(config.logs_dir / "supervisord.log")}
logfile_maxbytes = 5MB
logfile_backups = 1
pidfile = {quote(config.run_dir / "supervisord.pid")}
directory = {quote(config.root)}
umask = 077
identifier = ghostwriter
strip_ansi = false
{"user = root" if is_root else ""}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
    ]
    sections += [
        f"""[program:{component.name}]
command = "{quote(config.python)}" -m stack.launch "{quote(get_launch_file(config, component.name))}"
directory = {quote(config.root)}
autostart = false
autorestart = {"false" if component.one_shot else "true"}
startsecs = {0 if component.one_shot else START_SECONDS}
startretries = {START_RETRIES}
exitcodes = 0
stopsignal = {component.stop_signal}
stopwaitsecs = {component.stop_seconds}
stopasgroup = true
killasgroup = true
redirect_stderr = true
stdout_logfile = {quote(get_log_file(config, component.name))}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 2
"""
        for component in components
    ]
    return "\n".join(sections)


def build_environment(config: StackConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """What every component inherits of the caller's environment, and the marks of this stack."""
    no_proxy = plan_no_proxy(environ)
    return {
        **{name: environ[name] for name in KEPT_VARIABLES if name in environ},
        "PYTHONPATH": str(config.root),
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        STACK_VARIABLE: str(config.state_dir),
    }


def make_private_folder(folder: Path) -> None:
    """Make the folder, or make sure that nobody else made it or gets into it: its path can be foretold."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        check_private_folder(folder)


def check_private_folder(folder: Path) -> None:
    """Raise SupervisorError unless this is a folder of ours that nobody else gets into."""
    status = folder.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != os.getuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        raise SupervisorError(
            f"{folder} is not a private folder of yours (another user may have made it), so supervisor's socket can't "
            "be there: remove it, or set STATE_DIR to a folder with a shorter path"
        )


def get_launch_file(config: StackConfig, name: str) -> Path:
    return config.run_dir / "launch" / f"{name}.json"


def get_log_file(config: StackConfig, name: str) -> Path:
    return config.logs_dir / f"{name}.log"


class Supervisor:
    """The daemon of one stack, found by its socket."""

    def __init__(self, config: StackConfig) -> None:
        self._config = config
        self._file = config.run_dir / "supervisord.conf"

    def is_alive(self) -> bool:
        """Whether the daemon answers, be it that it is shutting down."""
        try:
            self._call("getState")
        except ShuttingDownError:
            return True
        except SupervisorError:
            return False
        return True

    def apply(self, components: Iterable[Component]) -> None:
        """Start the daemon with these programs, or tell a running one what has changed; starts no program."""
        is_new = self._write(render_config(self._config, components, os.getuid() == 0))
        if not self.is_alive():
            self._start_daemon()
        elif is_new:
            added, changed, removed = self._call("reloadConfig")[0]
            for name in (*changed, *removed):
                self.stop([name])
                self._call("removeProcessGroup", name)
            for name in (*added, *changed):
                self._call("addProcessGroup", name)

    def list_states(self) -> dict[str, ProcessState]:
        """Name -> state of every program; empty where no daemon runs, or one that is shutting down."""
        try:
            infos = self._call("getAllProcessInfo")
        except SupervisorError:
            return {}
        return {
            info["name"]: ProcessState(
                name=info["name"], state=info["statename"], pid=info["pid"], started_at=float(info["start"]),
                exit_status=info["exitstatus"], error=info["spawnerr"],
            )
            for info in infos
        }  # fmt: skip

    def start(self, name: str) -> None:
        """Start one program and return at once."""
        try:
            self._call("startProcess", name, False)
        except RefusedError as error:
            if "ALREADY_STARTED" not in str(error):
                raise

    def stop(self, names: Iterable[str], seconds: float = 40) -> None:
        """Stop these programs side by side and wait until they are."""
        waiting = set(names)
        for name in waiting:
            try:
                self._call("stopProcess", name, False)
            except ShuttingDownError:
                return  # it stops them itself
            except RefusedError as error:
                if not any(word in str(error) for word in ("NOT_RUNNING", "BAD_NAME")):
                    raise
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            states = self.list_states()
            if not any(
                name in states and states[name].state in {"STOPPING", "STARTING", "RUNNING"}
                for name in waiting
            ):
                return
            time.sleep(0.1)

    def shut_down(self, seconds: float = SHUTDOWN_SECONDS) -> None:
        """End the daemon, or find it ending, and wait until it is gone."""
        try:
            self._call("shutdown")
        except ShuttingDownError:
            pass
        except SupervisorError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.is_alive():
            time.sleep(0.1)

    def finish_shutdown(self) -> None:
        """Wait for a daemon that was told to end (by a stop that was cut, say); returns at once where none was."""
        try:
            self._call("getState")
        except ShuttingDownError:
            self.shut_down()
        except SupervisorError:
            pass

    def get_pid(self) -> int | None:
        """The daemon's process id."""
        try:
            return int(self._call("getPID"))
        except ShuttingDownError:
            with contextlib.suppress(OSError, ValueError):
                return int((self._config.run_dir / "supervisord.pid").read_text())
            return None
        except SupervisorError:
            return None

    def _write(self, content: str) -> bool:
        if self._file.is_file() and self._file.read_text(encoding="utf-8") == content:
            return False
        write_private(self._file, content)
        return True

    def _start_daemon(self) -> None:
        if self._config.socket_is_outside:
            make_private_folder(self._config.socket.parent)
        self._config.socket.unlink(missing_ok=True)
        command = [self._config.python, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(self._file)]
        done = subprocess.run(
            command,
            env=build_environment(self._config, os.environ),
            cwd=self._config.root,
            capture_output=True,
            text=True,
            timeout=30,
            start_new_session=True,
        )
        if done.returncode:
            raise SupervisorError(f"supervisord did not start: {(done.stderr or done.stdout).strip()[-500:]}")
        deadline = time.monotonic() + DAEMON_SECONDS
        while not self.is_alive():
            if time.monotonic() > deadline:
                log = self._config.logs_dir / "supervisord.log"
                raise SupervisorError(f"supervisord does not answer; its log: {log}")
            time.sleep(0.05)

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import Faults, SupervisorTransport

        if self._config.socket_is_outside:  # whoever answers there would be believed
            with contextlib.suppress(FileNotFoundError):
                check_private_folder(self._config.socket.parent)
        transport = SupervisorTransport(None, None, f"unix://{self._config.socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == Faults.SHUTDOWN_STATE:
                raise ShuttingDownError(
                    "supervisor is shutting down: wait a moment, then do it again"
                ) from fault
            named = " ".join([method, *map(str, arguments)])
            raise RefusedError(f"supervisor refuses to {named}: {fault.faultString}") from fault
        except (OSError, xmlrpc.client.Error) as error:
            raise SupervisorError(f"supervisor does not answer at {self._config.socket}") from error
        finally:
            transport.close()
