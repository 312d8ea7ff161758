"""A job as it is on disk: what its client sees, and what the server alone needs to know of it."""

from pydantic import BaseModel

from deployments.llm.fine_tuning.job import Job


class Bookkeeping(BaseModel):
    """What no client sees.

    `seconds` trained in attempts that have ended; `fruitless` attempts in a row whose trainer died with no checkpoint
    gained; `key` and `digest` of the request that made the job, where it named an Idempotency-Key, and `asker`, the
    name of the API key that it came with: None where there was none, or where it was not noted yet. `deleted` are the
    steps whose checkpoints' models were deleted: a job that trains through one again doesn't bring its model back.
    """

    seconds: float = 0.0
    fruitless: int = 0
    key: str | None = None
    asker: str | None = None
    digest: str | None = None
    deleted: list[int] = []


class JobRecord(Job):
    """The job with the server's notes on it."""

    server: Bookkeeping = Bookkeeping()

    def show(self) -> Job:
        """What the client sees."""
        return Job.model_construct(**{name: getattr(self, name) for name in Job.model_fields})
