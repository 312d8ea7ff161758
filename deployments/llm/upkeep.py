"""What the server does now and then, whatever is asked.

It knows no route and no engine.
"""

import asyncio
import logging
from typing import Final

from anyio import to_thread

from deployments.llm.quotas import Quotas
from deployments.llm.work import Floors

log = logging.getLogger(__name__)

_TICK: Final = 0.25
_TICKS_TO_SAVE: Final = 20


async def keep_up(floors: Floors, quotas: Quotas) -> None:
    """Ends what takes too long, and writes what was spent, until it is cancelled."""
    ticks = 0
    while True:
        await asyncio.sleep(_TICK)
        ticks += 1
        try:
            for floor in floors.all().values():
                floor.end_late()
            if ticks % _TICKS_TO_SAVE == 0:
                await to_thread.run_sync(quotas.save)
        except Exception:
            log.exception("The upkeep met an error; it goes on")
