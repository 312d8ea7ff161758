"""How long a job is waited for while its provider can't be reached.

It knows no provider and no clock of its own.
"""

from dataclasses import dataclass

PATIENCE = 900.0
"""Seconds without an answer before the wait is given up; a restart of the LLM server takes far less."""
FIRST_POLL = 3.0
"""Seconds before the first question; a trigger that fires at once can meet its own task before it is deferred."""


@dataclass(slots=True)
class Silence:
    """Tells when a provider has been silent for too long; times in seconds of one monotonic clock."""

    patience: float = PATIENCE
    since: float | None = None

    def hear(self) -> None:
        """The provider answered."""
        self.since = None

    def miss(self, now: float) -> bool:
        """The provider did not answer; True when that has gone on for too long."""
        if self.since is None:
            self.since = now
        return now - self.since >= self.patience
