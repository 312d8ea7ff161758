"""Whether the components that the desk uses can be reached: a short TCP connect each, all at once.

It knows no protocol; whether a component also works shows when it is used.
"""

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

CONNECT_TIMEOUT = 1.0  # seconds
_DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "postgresql+psycopg2": 5432}


def read_endpoint(url: str) -> tuple[str, int]:
    """Host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or _DEFAULT_PORTS.get(parts.scheme, 80)


def check_endpoints(endpoints: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """`reachable` or `unreachable` by name, within `CONNECT_TIMEOUT`."""
    if not endpoints:
        return {}
    with ThreadPoolExecutor(len(endpoints)) as pool:
        return dict(zip(endpoints, pool.map(_check, endpoints.values()), strict=True))


def _check(endpoint: tuple[str, int]) -> str:
    try:
        socket.create_connection(endpoint, CONNECT_TIMEOUT).close()
    except OSError:
        return "unreachable"
    return "reachable"
