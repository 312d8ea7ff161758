"""OpenAI's fine-tuning API: our own LLM server, or any provider that speaks it.

It knows nothing of prices, ledgers or what the model is for.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.training.proposals import Order
from deployments.training.tuning.port import (
    FINAL,
    Lengths,
    TuningApi,
    TuningError,
    TuningJob,
    TuningUnavailableError,
    UnknownJobError,
)
from shared.first_use import built_once
from shared.llm.port import Message

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

LOOK_BACK = 1000
"""Jobs and files searched for our own, newest first."""
_ALREADY_ENDED = frozenset({400, 409})
_TELLS_NOTHING = frozenset({400, 403, 404, 405, 422, 501})
"""Answers of providers without these routes."""


class OpenAiTuning(TuningApi):
    """Retries connection errors, 429 and 5xx up to `max_retries` times with exponential back-off (the client's own).

    Creating a job is never retried blindly: the answer to a first request may have been lost after the job began, and
    not every provider knows idempotency keys.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: float = 60.0,
        max_retries: int = 4,
        transport: Any = None,  # of the HTTP client, for tests
    ) -> None:
        self._base_url, self._api_key = base_url, api_key
        self._timeout, self._max_retries, self._transport = timeout, max_retries, transport

    @built_once
    def client(self) -> "OpenAI":
        """The vendor's client; its import takes a second, so it waits for the first call."""
        from openai import DefaultHttpxClient, OpenAI

        return OpenAI(
            base_url=self._base_url,
            api_key=self._api_key,
            timeout=self._timeout,
            max_retries=self._max_retries,
            http_client=DefaultHttpxClient(transport=self._transport) if self._transport else None,
        )

    def upload_file(self, path: Path, name: str) -> str:
        content = path.read_bytes()
        with self._explained():
            for number, known in enumerate(self.client.files.list(purpose="fine-tune")):
                if known.filename == name and known.bytes == len(content):
                    return known.id
                if number >= LOOK_BACK:
                    break
            return self.client.files.create(file=(name, content), purpose="fine-tune").id

    def create_job(self, order: Order, training_file: str, validation_file: str, key: str) -> TuningJob:
        hyperparameters: dict[str, Any] = {"n_epochs": order.n_epochs}
        if order.learning_rate_multiplier != 1.0:
            hyperparameters["learning_rate_multiplier"] = order.learning_rate_multiplier
        with self._explained():
            job = self.client.with_options(max_retries=0).fine_tuning.jobs.create(
                model=order.model,
                training_file=training_file,
                validation_file=validation_file,
                method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},  # type: ignore[arg-type]
                suffix=order.suffix,
                metadata=order.metadata,
                extra_headers={"Idempotency-Key": key},  # OpenAI itself passes over it
            )
            return _read_job(job)

    def find_job(self, order: Order, *, since: float | None = None) -> TuningJob | None:
        fruitless = None
        with self._explained():
            for number, job in enumerate(self.client.fine_tuning.jobs.list(limit=100)):
                metadata = job.metadata or {}
                ours = all(metadata.get(key) == value for key, value in order.metadata.items())
                if ours and not (found := _read_job(job)).fruitless:
                    return found
                if ours and fruitless is None and since is not None and job.created_at >= since:
                    fruitless = found
                if number >= LOOK_BACK:
                    break
        return fruitless

    def retrieve_job(self, job_id: str) -> TuningJob:
        from openai import NotFoundError

        with self._explained():
            try:
                return _read_job(self.client.fine_tuning.jobs.retrieve(job_id))
            except NotFoundError as error:
                raise UnknownJobError(f"{self._base_url} has no job {job_id}") from error

    def cancel_job(self, job_id: str) -> None:
        from openai import APIStatusError

        with self._explained():
            try:
                self.client.fine_tuning.jobs.cancel(job_id)
            except APIStatusError as error:
                if error.status_code not in _ALREADY_ENDED or not self.retrieve_job(job_id).finished:
                    raise

    async def watch_job(self, job_id: str) -> TuningJob:
        with self._explained():
            async with await self._connect_async() as client:
                return _read_job(await client.fine_tuning.jobs.retrieve(job_id))

    def download_file(self, file_id: str) -> bytes:
        with self._explained():
            return self.client.files.content(file_id).read()

    def measure(self, model: str, conversations: Sequence[Sequence[Message]]) -> Lengths | None:
        """As vLLM and our own server have it: the model tells `max_model_len`, and `/tokenize` counts beside /v1."""
        from openai import APIStatusError

        counts = []
        url = self._base_url.rstrip("/").removesuffix("/v1") + "/tokenize"
        with self._explained():
            try:
                limit = (self.client.models.retrieve(model).model_extra or {}).get("max_model_len")
                if not limit:
                    return None
                for messages in conversations:
                    whole = messages[-1]["role"] == "assistant"
                    body = {"model": model, "messages": list(messages), "add_generation_prompt": not whole}
                    answer = self.client.post(url, body=body, cast_to=object)
                    count = answer.get("count") if isinstance(answer, dict) else None
                    if not isinstance(count, int):  # a page, or another server's way to tokenize
                        return None
                    counts.append(count)
            except APIStatusError as error:
                if error.status_code not in _TELLS_NOTHING:
                    raise
                return None
        return Lengths(tuple(counts), int(limit))

    async def _connect_async(self) -> "AsyncOpenAI":
        # A client of its own per call: a connection pool must not outlive the loop it was made in.
        def build() -> "AsyncOpenAI":
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient

            return AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key,
                timeout=20,
                max_retries=0,
                http_client=DefaultAsyncHttpxClient(transport=self._transport) if self._transport else None,
            )

        return await asyncio.to_thread(build)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from openai import APIConnectionError, APIStatusError, AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise TuningError(
                f"{self._base_url} refused the API key: check the secret llm_api_key"
            ) from error
        except APIConnectionError as error:
            raise TuningUnavailableError(
                f"{self._base_url} can't be reached: is the LLM server up?"
            ) from error
        except APIStatusError as error:
            message = f"{self._base_url} answered {error.status_code}: {error.message[:500]}"
            if error.status_code in (408, 429) or error.status_code >= 500:
                raise TuningUnavailableError(message) from error
            raise TuningError(message) from error


def _read_job(job: Any) -> TuningJob:
    finished = job.status in FINAL
    return TuningJob(
        id=job.id,
        status=job.status,
        model=job.model,
        created_at=job.created_at,
        fine_tuned_model=job.fine_tuned_model,
        finished_at=job.finished_at if finished else None,
        trained_tokens=job.trained_tokens,
        result_files=tuple(job.result_files or ()),
        error=(job.error.message or job.error.code or "") if job.error else "",
        metadata=dict(job.metadata or {}),
    )
