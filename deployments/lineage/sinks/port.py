"""The port through which events leave, one at a time.

It knows no order, retry or database.
"""

from typing import Any, Protocol


class EventRefusedError(Exception):
    """The sink will never take this event; the message says why."""


class DeliveryFailedError(Exception):
    """The sink failed on this event; it may take it later."""


class SinkAwayError(Exception):
    """There is no sink at that address just now, or it takes nothing."""


class LineageSink(Protocol):
    """Takes OpenLineage run events; the same event again is harmless."""

    def deliver(self, event: dict[str, Any]) -> None:
        """Returns once the event is acknowledged; raises one of the three errors above."""

    def is_well(self) -> bool:
        """Whether the sink answers a question that needs its database."""

    def close(self) -> None:
        """Let go of connections."""
