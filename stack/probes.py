"""Whether a component is ready, by looking: HTTP, a command, or a heartbeat file.

It knows no component and waits for nothing longer than a second or five.
"""

import subprocess
import time
from pathlib import Path

import httpx

from stack.component import CommandProbe, HeartbeatProbe, HttpProbe, Probe

HTTP_TIMEOUT = 3.0


def is_ready(probe: Probe) -> bool:
    """One look; False for anything but a clear yes."""
    match probe:
        case HttpProbe(url=url, field=field, equals=equals):
            return _answers(url, field, equals)
        case CommandProbe(command=command):
            try:
                return subprocess.run(command, capture_output=True, timeout=5).returncode == 0
            except (OSError, subprocess.TimeoutExpired):
                return False
        case HeartbeatProbe(path=path, max_age=max_age):
            return _is_fresh(path, max_age)


def _answers(url: str, field: str, equals: str) -> bool:
    try:
        # No proxy of the environment stands between the parts of one machine.
        with httpx.Client(trust_env=False, timeout=HTTP_TIMEOUT) as client:
            response = client.get(url)
        if response.status_code != 200:
            return False
        if not field:
            return True
        value = response.json()
        for part in field.split("."):
            value = value[part]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
    return value == equals


def _is_fresh(path: Path, max_age: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime < max_age
    except OSError:
        return False
