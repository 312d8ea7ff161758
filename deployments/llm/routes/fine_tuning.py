"""`/v1/fine_tuning/jobs`: create, list, retrieve, cancel, events.

It knows no training: the runner does the work.
"""

import random
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, StringConstraints

from deployments.llm.errors import ApiError, model_not_found
from deployments.llm.fine_tuning.estimate import estimate_finish
from deployments.llm.fine_tuning.job import Hyperparameters, Job
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore, append_event, read_events
from deployments.llm.uploads import FileStore

Auto = Literal["auto"]
Suffix = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_METADATA_QUERY: Final = re.compile(r"metadata\[(.{1,64})\]")


class HyperparametersBody(BaseModel):
    """Values, or "auto"."""

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=64)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=100)] | Auto = "auto"

    def resolve(self) -> Hyperparameters:
        """Defaults in the place of "auto"."""
        return Hyperparameters(
            **{name: value for name, value in self.model_dump().items() if value != "auto"}
        )


class SupervisedBody(BaseModel):
    """Settings of supervised fine-tuning."""

    hyperparameters: HyperparametersBody = HyperparametersBody()


class MethodBody(BaseModel):
    """The method; only supervised fine-tuning is done here."""

    type: Literal["supervised"] = "supervised"
    supervised: SupervisedBody = SupervisedBody()


class JobBody(BaseModel):
    """OpenAI's request body."""

    model: str
    training_file: str
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    suffix: Suffix | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None


def fine_tuning_router(jobs: JobStore, files: FileStore, runner: JobRunner, base_model: str) -> APIRouter:
    """Job routes over the stores and the runner."""
    router = APIRouter(prefix="/fine_tuning/jobs")

    def find(job_id: str) -> Job:
        job = jobs.get(job_id)
        if job is None:
            raise ApiError(
                404, f"Could not find fine tune: {job_id}", param="fine_tune_id", code="fine_tune_not_found"
            )
        return job

    def describe(job: Job) -> Job:
        if job.status != "running":
            return job
        finish = estimate_finish(read_events(jobs.job_dir(job.id)))
        return job.model_copy(update={"estimated_finish": finish})

    @router.post("")
    def create_job(body: JobBody) -> Job:
        if body.model != base_model:
            raise model_not_found(body.model)
        for param, file_id in (
            ("training_file", body.training_file),
            ("validation_file", body.validation_file),
        ):
            if file_id is not None and files.get(file_id) is None:
                raise ApiError(
                    400, f"{param}: file {file_id} does not exist.", param=param, code="invalid_file"
                )
        chosen = body.method.supervised.hyperparameters if body.method else body.hyperparameters
        hyperparameters = (chosen or HyperparametersBody()).resolve()
        job = jobs.create(
            model=body.model,
            training_file=body.training_file,
            validation_file=body.validation_file,
            hyperparameters=hyperparameters,
            method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters.model_dump()}},
            suffix=re.sub(r"[^a-z0-9-]+", "-", body.suffix.lower()).strip("-") if body.suffix else None,
            seed=random.randrange(2**31) if body.seed is None else body.seed,
            metadata=body.metadata or {},
        )
        runner.wake()
        return job

    @router.get("")
    def list_jobs(
        request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 20, after: str | None = None
    ) -> dict[str, Any]:
        wanted = {
            match[1]: value
            for key, value in request.query_params.items()
            if (match := _METADATA_QUERY.fullmatch(key))
        }
        found = [job for job in jobs.list_all() if wanted.items() <= job.metadata.items()]
        page = _page(found, limit, after)
        return {**page, "data": [describe(job) for job in page["data"]]}

    @router.get("/{job_id}")
    def get_job(job_id: str) -> Job:
        return describe(find(job_id))

    @router.post("/{job_id}/cancel")
    def cancel_job(job_id: str) -> Job:
        job = find(job_id)
        cancelled = jobs.change(job_id, status="cancelled")
        if cancelled is None:
            raise ApiError(400, f"Job {job_id} has ended already: {find(job_id).status}.", code="job_ended")
        append_event(jobs.job_dir(job.id), "The job was cancelled", level="warn")
        runner.wake()
        return cancelled

    @router.get("/{job_id}/events")
    def list_events(
        job_id: str, limit: Annotated[int, Query(ge=1, le=1000)] = 20, after: str | None = None
    ) -> dict[str, Any]:
        return _page(jobs.events(find(job_id).id), limit, after)

    return router


def _page(items: Sequence[Any], limit: int, after: str | None) -> dict[str, Any]:
    """One page of a list, newest first; an unknown cursor gives an empty page."""
    if after:
        ids = [item.id for item in items]
        items = items[ids.index(after) + 1 :] if after in ids else []
    page = items[:limit]
    return {"object": "list", "data": page, "has_more": len(items) > limit}
