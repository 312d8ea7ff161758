"""When a running job will be done, from the rate of its steps so far.

It knows no clock and no storage: events go in.
"""

import math
from collections.abc import Sequence
from typing import Final

from deployments.llm.fine_tuning.job import ATTEMPT_RESUMED, ATTEMPT_STARTED, Event

_COUNTS: Final = ("step", "total_steps")
_STEPS_NEEDED: Final = 3
"""Events carry whole seconds: the rate of fewer steps is mostly rounding."""


def estimate_finish(events: Sequence[Event]) -> int | None:
    """Unix seconds, from a job's events, oldest first; None before there is a rate. A new attempt counts anew."""
    first = last = None
    for event in events:
        if event.message.startswith((ATTEMPT_STARTED, ATTEMPT_RESUMED)):
            first = last = None
        elif event.type == "metrics" and all(isinstance(event.data.get(key), int) for key in _COUNTS):
            first, last = first or event, event
    if first is None or last is None:
        return None
    steps = (
        last.data["step"] - first.data["step"]
    )  # an attempt that was resumed does not begin with the first
    if steps + 1 < _STEPS_NEEDED:
        return None
    rate = (last.created_at - first.created_at) / steps
    return last.created_at + math.ceil(rate * (last.data["total_steps"] - last.data["step"]))
