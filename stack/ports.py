"""The ports of the stack: a default for each, moved by PORT_OFFSET or set one by one.

It knows no component and does not look at the machine.
"""

from collections.abc import Mapping
from typing import Final

DEFAULT_PORTS: Final[Mapping[str, int]] = {
    "POSTGRES_PORT": 5433,
    "WEAVIATE_PORT": 8090,
    "WEAVIATE_GRPC_PORT": 50051,
    "WEAVIATE_GOSSIP_PORT": 7946,
    "WEAVIATE_DATA_PORT": 7947,
    "WEAVIATE_RAFT_PORT": 8300,
    "WEAVIATE_RAFT_RPC_PORT": 8301,
    "MLFLOW_PORT": 5001,
    "LLM_PORT": 8000,
    "INGEST_PORT": 8080,
    "TRAINING_PORT": 8081,
    "SERVING_PORT": 7860,
    "MARQUEZ_PORT": 5002,
    "MARQUEZ_ADMIN_PORT": 5003,
}


class PortError(ValueError):
    """A port setting that cannot work; the message names the setting."""


def plan_ports(environ: Mapping[str, str]) -> dict[str, int]:
    """Setting -> port: the setting itself where it is given, else its default plus PORT_OFFSET."""
    offset = _read_number("PORT_OFFSET", environ.get("PORT_OFFSET") or "0")
    plan: dict[str, int] = {}
    owners: dict[int, str] = {}
    for setting, default in DEFAULT_PORTS.items():
        given = environ.get(setting)
        port = _read_number(setting, given) if given else default + offset
        if not 1 <= port <= 65535:
            cause = setting if given else "PORT_OFFSET"
            raise PortError(f"{cause} puts {setting} at {port}; ports go from 1 to 65535")
        if port in owners:
            raise PortError(f"{owners[port]} and {setting} are both {port}; set one of them to another port")
        owners[port] = setting
        plan[setting] = port
    return plan


def _read_number(setting: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise PortError(f"{setting}={text!r} is not a number") from None
