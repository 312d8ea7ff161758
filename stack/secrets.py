"""The secrets of one installation: generated once, one file each, readable by their owner alone.

It knows not what they open, and needs nothing but the standard library (`make secrets` runs before any install).
"""

import base64
import json
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from shared.secret_files import SecretError, read_secret
from stack.state_folder import StateFolderError, check_usable, find_folders, mark

AIRFLOWS = {"ingest": "serving", "training": "ingest"}
"""Deployment -> the service user that another deployment signs in with."""


def _password() -> str:
    return secrets.token_urlsafe(24)


def _long_secret() -> str:
    return secrets.token_urlsafe(64)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


GENERATORS: dict[str, Callable[[], str]] = {
    "admin_password": lambda: secrets.token_urlsafe(12),
    "weaviate_api_key": _password,
    "weaviate_reader_key": _password,
    "weaviate_cluster_password": _password,
    "llm_api_key": lambda: f"sk-{secrets.token_urlsafe(32)}",
    "postgres_password": _password,
    **{f"{name}_db_password": _password for name in ("ledger", "mlflow", "marquez", *AIRFLOWS)},
    **{f"{name}_service_password": _password for name in AIRFLOWS},
    **{f"{name}_fernet_key": _fernet_key for name in AIRFLOWS},
    **{f"{name}_api_secret": _long_secret for name in AIRFLOWS},
    **{f"{name}_jwt_secret": _long_secret for name in AIRFLOWS},
}

SECRET_FILES = (*GENERATORS, *(f"{name}_airflow_passwords" for name in AIRFLOWS))
"""What is ours in the folder; what else lies there (an editor's backup, say) is nobody's business."""


def ensure_secrets(directory: Path) -> list[str]:
    """Make what is missing or empty, close what is open to others; returns the names made. Raises SecretError."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    made = []
    for name, generate in GENERATORS.items():
        path = directory / name
        if read_secret(path):
            path.chmod(0o600)
        else:
            write_private(path, generate())
            made.append(name)
    # Airflow's simple auth manager wants the passwords of one deployment together, in a file it may write.
    for deployment, service_user in AIRFLOWS.items():
        passwords = {"admin": "admin_password", service_user: f"{deployment}_service_password"}
        content = json.dumps({user: read_secret(directory / name) for user, name in passwords.items()})
        path = directory / f"{deployment}_airflow_passwords"
        if read_secret(path) != content:
            write_private(path, content)
            made.append(path.name)
    return made


def require_secret(directory: Path, name: str) -> str:
    """One secret, from its file; raises SecretError where there is none."""
    if secret := read_secret(directory / name):
        return secret
    raise SecretError(f"{directory / name} is missing or empty: make up generates it")


def write_private(path: Path, content: str) -> None:
    """Write whole or not at all, mode 0600 from the first byte."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    temporary.replace(path)


def read_env_file(path: Path) -> dict[str, str]:
    """`NAME=value` lines, in quotes or not: as much of a `.env` as can be read before anything is installed."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = [re.fullmatch(r"(?:export\s+)?(\w+)\s*=\s*(.*)", line.strip()) for line in lines]
    return {match[1]: re.sub(r"\s+#.*", "", match[2]).strip("\"'") for match in found if match}


def main() -> None:
    """`python -m stack.secrets`: generate the secrets that are missing, in the state folder that `make up` uses."""
    root = Path(__file__).resolve().parent.parent
    given = {name: value for name, value in os.environ.items() if value}
    folders = find_folders({**read_env_file(root / ".env"), **given}, root)
    directory = folders.state_dir / "secrets"
    try:
        check_usable(folders)
        mark(folders)
        made = ensure_secrets(directory)
    except (StateFolderError, SecretError, OSError) as error:
        sys.exit(f"secrets: {error}")
    print(f"{directory}: {len(made)} secrets generated, {len(GENERATORS) + len(AIRFLOWS) - len(made)} kept")


if __name__ == "__main__":
    main()
