"""Marquez behind the sink port, over its REST interface.

It knows no order and no retry.
"""

from typing import Any, Final

import httpx

from deployments.lineage.sinks.port import DeliveryFailedError, EventRefusedError, SinkAwayError

_REFUSED: Final = frozenset({400, 413, 422})
_MESSAGE: Final = 500  # characters of an answer that are kept


class MarquezSink:
    """One connection pool; may be used by many threads."""

    def __init__(self, url: str, *, connections: int, timeout: float = 10.0) -> None:
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            timeout=timeout,
            limits=httpx.Limits(max_connections=connections + 1),
            follow_redirects=False,
        )

    def deliver(self, event: dict[str, Any]) -> None:
        """POST one event; Marquez acknowledges with 201."""
        try:
            response = self._client.post("/api/v1/lineage", json=event)
        except httpx.TransportError as error:
            raise SinkAwayError(f"{type(error).__name__}: {error}") from error
        if response.is_success:
            return
        message = f"HTTP {response.status_code}: {response.text[:_MESSAGE]}"
        if response.status_code in _REFUSED:
            raise EventRefusedError(message)
        if response.status_code == 500:  # two new datasets at once race in Marquez; a bad date does it, too
            raise DeliveryFailedError(message)
        raise SinkAwayError(message)  # a gateway, a wrong address, a missing right: not this event's fault

    def is_well(self) -> bool:
        """Namespaces come from Marquez' database."""
        try:
            return self._client.get("/api/v1/namespaces", params={"limit": 1}).is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()
