"""Where uv is: on PATH, or where `bootstrap.sh` put it.

It knows no environment.
"""

import shutil
from pathlib import Path

from stack.config import StackConfig


def find_uv(config: StackConfig) -> Path:
    """The uv program; FileNotFoundError says what to do."""
    cached = config.cache_dir / "uv" / "bin" / "uv"
    found = shutil.which("uv") or (cached if cached.is_file() else None)
    if not found:
        raise FileNotFoundError("uv is neither on PATH nor in the cache: run make up, which installs it")
    return Path(found)
