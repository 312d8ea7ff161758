"""How Weaviate runs as one local process: its settings, and where its binary is.

It knows no collection. gRPC and the cluster's data port bind all interfaces whatever is set, hence the keys and roles.
"""

import os
import re
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from stack.config import StackConfig

VERSION = "1.38.11"
MODULE_SUM = "h1:BKy7hNyg5ZI+oIUA/Dr71OxddxwLzoHgUCd4B36heug="
"""Of this version's Go module, as Go's checksum database vouches for it: `go mod download -json MODULE@VERSION`."""
WRITER = "writer"
READER = "reader"


def find_binary(config: StackConfig) -> Path | None:
    """The binary in the cache, or on PATH where it is of this version: another one could spoil the data."""
    cached = get_cached_binary(config)
    if cached.is_file():
        return cached
    return next((path for path, version in find_on_path().items() if version == VERSION), None)


def find_on_path() -> dict[Path, str]:
    """Binaries on PATH that go by Weaviate's name, and the version that each tells; empty where it tells none."""
    found = [Path(path) for name in ("weaviate", "weaviate-server") if (path := shutil.which(name))]
    return {path: ask_version(path) for path in found}


@lru_cache
def ask_version(binary: Path) -> str:
    """The version that a Weaviate binary tells, or an empty text.

    It has no flag for that, but names its version in each line of its log, and ends at once over a wrong setting.
    """
    with tempfile.TemporaryDirectory(prefix="weaviate-version") as folder:
        env = {
            "PATH": os.environ.get("PATH", ""),
            "LOG_FORMAT": "json",
            "GRPC_PORT": "none",
            "PERSISTENCE_DATA_PATH": folder,
        }
        command = [str(binary), "--host", "127.0.0.1", "--port", "0", "--scheme", "http"]
        try:
            done = subprocess.run(
                command, env=env, cwd=folder, capture_output=True, text=True, errors="replace", timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    match = re.search(r'"build_wv_version":"([^"]+)"', done.stdout + done.stderr)
    return match[1] if match else ""


def get_cached_binary(config: StackConfig) -> Path:
    """Where this version's binary is, or will be, in the cache."""
    return config.cache_dir / "bin" / f"weaviate-{VERSION}"


def build_environment(config: StackConfig) -> dict[str, str]:
    """Weaviate is set up by its environment alone."""
    ports = config.ports
    writer_key, reader_key = config.secret("weaviate_api_key"), config.secret("weaviate_reader_key")
    return {
        "PERSISTENCE_DATA_PATH": str(config.state_dir / "weaviate"),
        "GRPC_PORT": str(ports["WEAVIATE_GRPC_PORT"]),
        # With another host name than the one it was born with, it never becomes ready.
        "CLUSTER_HOSTNAME": "ghostwriter",
        "CLUSTER_IN_LOCALHOST": "true",
        "CLUSTER_BIND_ADDR": "127.0.0.1",
        "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
        "CLUSTER_GOSSIP_BIND_PORT": str(ports["WEAVIATE_GOSSIP_PORT"]),
        "CLUSTER_DATA_BIND_PORT": str(ports["WEAVIATE_DATA_PORT"]),
        "CLUSTER_BASIC_AUTH_USERNAME": "cluster",
        "CLUSTER_BASIC_AUTH_PASSWORD": config.secret("weaviate_cluster_password"),
        "RAFT_PORT": str(ports["WEAVIATE_RAFT_PORT"]),
        "RAFT_INTERNAL_RPC_PORT": str(ports["WEAVIATE_RAFT_RPC_PORT"]),
        "RAFT_BOOTSTRAP_EXPECT": "1",
        "RAFT_TIMEOUTS_MULTIPLIER": "1",
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
        "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": f"{writer_key},{reader_key}",
        "AUTHENTICATION_APIKEY_USERS": f"{WRITER},{READER}",
        "AUTHORIZATION_RBAC_ENABLED": "true",
        "AUTHORIZATION_RBAC_ROOT_USERS": WRITER,
        "EXPERIMENTAL_AUTHORIZATION_RBAC_READONLY_USERS": READER,
        "AUTOSCHEMA_ENABLED": "false",
        "DISABLE_TELEMETRY": "true",
        "GO_PROFILING_DISABLE": "true",
        "DEFAULT_VECTORIZER_MODULE": "none",
        "ENABLE_MODULES": "",
    }
