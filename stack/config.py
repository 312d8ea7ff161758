"""Where this stack lives: its state folder, ports, cache, and the settings that a user may override.

It knows no component; the environment and `.env` are read here and nowhere else in the stack.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path

from dotenv import dotenv_values

from stack.ports import plan_ports
from stack.secrets import require_secret
from stack.state_folder import Folders, find_folders

ROOT = Path(__file__).resolve().parent.parent

# What a user may tell the components; everything else they are told is the stack's own.
PASSED_ON = (
    "GHOSTWRITER_LLM_BASE_URL", "GHOSTWRITER_CHAT_MODEL", "GHOSTWRITER_EMBEDDING_MODEL", "GHOSTWRITER_IMAGE_MODEL",
    "GHOSTWRITER_LLM_MAX_MODEL_LEN", "GHOSTWRITER_MAX_EXAMPLE_TOKENS",
    "GHOSTWRITER_LOG_LEVEL", "GHOSTWRITER_REQUEST_TIMEOUT", "GHOSTWRITER_MARQUEZ_WEB_URL",
    "GHOSTWRITER_SERVING_TRUSTED_PROXIES", "GHOSTWRITER_UPLOADS_URL", "GHOSTWRITER_HANDOVER_URL",
)  # fmt: skip

# What begins so is told to our own LLM server alone: another model restarts no Airflow.
LLM_PREFIX = "GHOSTWRITER_LLM_"
# Where it listens is the stack's own business, a key comes from its file, what others must know is passed on to all.
NOT_FOR_LLM = {"GHOSTWRITER_LLM_HOST", "GHOSTWRITER_LLM_PORT", "GHOSTWRITER_LLM_API_KEY", *PASSED_ON}

MAX_SOCKET_PATH = 90
OWN_HOSTS = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class StackConfig(Folders):
    """Absolute paths and numbers; made by `load_config`."""

    ports: Mapping[str, int]
    overrides: Mapping[str, str] = field(default_factory=dict)
    llm_settings: Mapping[str, str] = field(default_factory=dict)
    marquez_url: str = ""
    marquez_jar: str = ""
    weaviate_sha256: str = ""
    skip_checks: bool = False
    python: str = str(ROOT / ".venv" / "bin" / "python") if (ROOT / ".venv").is_dir() else sys.executable

    @property
    def secrets_dir(self) -> Path:
        return self.state_dir / "secrets"

    @property
    def logs_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def run_dir(self) -> Path:
        """Files that only matter while the stack runs: socket, process records, launch files."""
        return self.state_dir / "run"

    @property
    def spool_dir(self) -> Path:
        return self.state_dir / "lineage" / "spool"

    @property
    def bin_dir(self) -> Path:
        return Path(self.python).parent

    @property
    def socket(self) -> Path:
        """Supervisor's socket; Unix allows its path about 100 bytes, so a deep state folder has it in /tmp."""
        if not self.socket_is_outside:
            return self.run_dir / "supervisor.sock"
        digest = hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:12]
        return Path("/tmp") / f"ghostwriter-{os.getuid()}-{digest}" / "supervisor.sock"  # noqa: S108 - checked before use

    @property
    def socket_is_outside(self) -> bool:
        return len(os.fsencode(self.run_dir / "supervisor.sock")) > MAX_SOCKET_PATH

    @property
    def admin_password_file(self) -> Path:
        return self.secrets_dir / "admin_password"

    def secret(self, name: str) -> str:
        """One secret of this stack, always from its file; raises SecretError where there is none."""
        return require_secret(self.secrets_dir, name)


def load_config(environ: Mapping[str, str] | None = None, root: Path = ROOT) -> StackConfig:
    """The configuration from the environment over `.env` at the root; relative paths are relative to the root."""
    file_values = {key: value for key, value in dotenv_values(root / ".env").items() if value}
    values = {**file_values, **{k: v for k, v in (os.environ if environ is None else environ).items() if v}}
    return StackConfig(
        **vars(find_folders(values, root)),
        ports=plan_ports(values),
        overrides={key: values[key] for key in PASSED_ON if key in values},
        llm_settings={
            key: value
            for key, value in values.items()
            if key.startswith(LLM_PREFIX) and key not in NOT_FOR_LLM
        },
        marquez_url=values.get("MARQUEZ_URL", ""),
        marquez_jar=values.get("MARQUEZ_JAR", ""),
        weaviate_sha256=values.get("WEAVIATE_SHA256", ""),
        skip_checks=values.get("GHOSTWRITER_SKIP_CHECKS", "0") != "0",
    )


def plan_no_proxy(environ: Mapping[str, str]) -> str:
    """The hosts that no proxy stands before: the caller's, in either spelling, and this machine."""
    given = ",".join(environ.get(name, "") for name in ("NO_PROXY", "no_proxy")).split(",")
    hosts = [host for text in given if _is_host(host := text.strip())]
    # "*" means all, but only by itself.
    return "*" if "*" in hosts else ",".join(dict.fromkeys([*hosts, *OWN_HOSTS]))


def _is_host(text: str) -> bool:
    """Any but networks and ports of IPv6: httpx, which most of the components use, starts with none of these."""
    try:
        return bool(text) and (text.count(":") < 2 or IPv6Address(text).version == 6)
    except ValueError:
        return False
