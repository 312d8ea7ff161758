"""Waits in the triggerer for a fine-tuning job to end.

It knows no secret: the provider's address and key are read from the settings where it runs.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from deployments.training.abandonment import stop_job_if_given_up
from deployments.training.tuning.port import TuningApi, TuningError, TuningUnavailableError
from deployments.training.waiting import FIRST_POLL, PATIENCE, Silence


class FineTuneTrigger(BaseTrigger):
    """Fires `{"job_id", "status", "error"}`; the status is the job's last one, or `lost` when the wait was given up.

    :param job_id: the job at the provider.
    :param poll_interval: seconds between two questions.
    :param patience: seconds without an answer before it gives up.
    """

    def __init__(self, job_id: str, poll_interval: float = 5.0, patience: float = PATIENCE) -> None:
        super().__init__()
        self.job_id = job_id
        self.poll_interval = poll_interval
        self.patience = patience

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer needs to go on after a restart: no address, no key."""
        arguments = {"job_id": self.job_id, "poll_interval": self.poll_interval, "patience": self.patience}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until the job has ended; a restart of the provider is waited out."""
        tuning = await self.connect()
        silence = Silence(self.patience)
        started, status = time.monotonic(), ""
        await asyncio.sleep(max(FIRST_POLL, self.poll_interval))
        while True:
            try:
                job = await tuning.watch_job(self.job_id)
            except TuningUnavailableError as error:
                self.log.warning("%s; asking again", error)
                if silence.miss(time.monotonic()):
                    yield TriggerEvent({"job_id": self.job_id, "status": "lost", "error": str(error)})
                    return
            except TuningError as error:
                yield TriggerEvent({"job_id": self.job_id, "status": "lost", "error": str(error)})
                return
            else:
                silence.hear()
                if job.status != status:
                    status = job.status
                    self.log.info("job %s: %s after %.0f s", job.id, status, time.monotonic() - started)
                if job.finished:
                    yield TriggerEvent({"job_id": job.id, "status": job.status, "error": job.error})
                    return
            await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """A person has marked or cleared the waiting task; only a mark stops the job (see `abandonment`).

        In a thread, which ends what it began: the triggerer cancels this coroutine again within a second.
        """
        await asyncio.to_thread(stop_job_if_given_up, self.task_instance, self.job_id)

    async def connect(self) -> TuningApi:
        """The provider; settings are files, so they are read off the event loop."""

        def build() -> TuningApi:
            from deployments.training.composition import create_tuning
            from shared.settings import get_settings

            return create_tuning(get_settings())

        return await asyncio.to_thread(build)
