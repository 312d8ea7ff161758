"""`/v1/fine_tuning/jobs`: create, list, retrieve, cancel, pause, resume, events, checkpoints.

It knows no training: the runner does the work.
"""

import random
import re
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import ConfigDict

from deployments.llm.errors import ApiError, model_not_found
from deployments.llm.fine_tuning.estimate import estimate_finish
from deployments.llm.fine_tuning.events import append_event, read_events
from deployments.llm.fine_tuning.job import CheckpointObject, Event, Job
from deployments.llm.fine_tuning.outcome import drop_trainer_state
from deployments.llm.fine_tuning.record import Bookkeeping, JobRecord
from deployments.llm.fine_tuning.runner import JobRunner
from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.fine_tuning.validation import has_copies
from deployments.llm.request_notes import NO_KEY, get_notes
from deployments.llm.routes.job_bodies import JobBody
from deployments.llm.routes.paging import Page, PageQuery, cut_page
from deployments.llm.uploads import FileStore

_METADATA_QUERY: Final = re.compile(r"metadata\[(.{1,64})\]")


class JobsQuery(PageQuery):
    """Besides: `metadata[key]=value`, or `metadata=null` for jobs without any."""

    model_config = ConfigDict(extra="allow")

    metadata: Literal["null"] | None = None


class CheckpointsQuery(PageQuery):
    """As OpenAI has it, ten unless told."""

    limit: Annotated[int, Query(ge=1, le=1000)] = 10


def fine_tuning_router(jobs: JobStore, files: FileStore, runner: JobRunner, base_model: str) -> APIRouter:
    """Job routes over the stores and the runner."""
    router = APIRouter(prefix="/fine_tuning/jobs")

    def find(job_id: str) -> JobRecord:
        job = jobs.get(job_id)
        if job is None:
            raise ApiError(
                404, f"Could not find fine tune: {job_id}", param="fine_tune_id", code="fine_tune_not_found"
            )
        return job

    def describe(job: JobRecord) -> Job:
        shown = job.show()
        if job.status == "running":
            shown.estimated_finish = estimate_finish(read_events(jobs.job_dir(job.id)))
        return shown

    def check(body: JobBody) -> None:
        if body.model in jobs.models():
            message = f"'{body.model}' was fine-tuned already; only the base model {base_model} can be."
            raise ApiError(400, message, param="model", code="model_not_supported")
        if body.model != base_model:
            raise model_not_found(body.model)
        for param in ("training_file", "validation_file"):
            if (file_id := getattr(body, param)) is None:
                continue
            file = files.get(file_id)
            if file is None:
                raise ApiError(
                    400, f"{param}: file {file_id} does not exist.", param=param, code="invalid_file"
                )
            if file.purpose != "fine-tune":
                message = (
                    f"{param}: file {file_id} has the purpose '{file.purpose}': upload it with 'fine-tune'."
                )
                raise ApiError(400, message, param=param, code="invalid_file_purpose")

    @router.post("")
    def create_job(
        body: JobBody,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Job:
        asker = name_asker()
        known = idempotency_key and jobs.find_request(idempotency_key, asker)
        if not known:
            check(body)
            hyperparameters, method = body.resolve(), body.method_type
            settings = {"hyperparameters": hyperparameters.model_dump(exclude_none=True)}
            known = jobs.create(
                model=body.model,
                training_file=body.training_file,
                validation_file=body.validation_file,
                hyperparameters=hyperparameters,
                method={"type": method, method: settings},
                suffix=body.model_suffix,
                seed=random.randrange(2**31) if body.chosen_seed is None else body.chosen_seed,
                metadata=body.metadata or {},
                server=Bookkeeping(key=idempotency_key, asker=asker, digest=body.digest),
            )
            runner.wake()
        if idempotency_key and known.server.digest != body.digest:
            # Not 409: OpenAI's clients send such a request again and again.
            raise ApiError(
                400,
                f"This Idempotency-Key came before with another request, which made {known.id}: use a new key.",
                code="idempotency_key_reused",
            )
        return describe(known)

    @router.get("")
    def list_jobs(request: Request, query: Annotated[JobsQuery, Query()]) -> Page[Job]:
        wanted: dict[str, str] = {}
        for key, value in request.query_params.items():
            if match := _METADATA_QUERY.fullmatch(key):
                wanted[match[1]] = value
            elif key not in JobsQuery.model_fields:
                raise ApiError(400, f"Unrecognized request argument supplied: {key[:80]}", param=key[:80])
        found = [job for job in jobs.list_all() if wanted.items() <= job.metadata.items()]
        if query.metadata:
            found = [job for job in found if not job.metadata]
        page = cut_page(found, query.limit, query.after)
        return Page[Job](**{**dict(page), "data": [describe(job) for job in page.data]})

    @router.get("/{job_id}")
    def get_job(job_id: str) -> Job:
        return describe(find(job_id))

    def change(job_id: str, event: str, **fields: Any) -> Job | None:
        find(job_id)
        changed = jobs.change(job_id, **fields)
        if changed is None:
            return None
        append_event(jobs.job_dir(job_id), event, level="warn")
        runner.wake()
        return changed.show()

    def refuse_ended(job_id: str) -> ApiError:
        return ApiError(400, f"Job {job_id} has ended already: {find(job_id).status}.", code="job_ended")

    @router.post("/{job_id}/cancel")
    def cancel_job(job_id: str) -> Job:
        before = find(job_id).status
        cancelled = change(job_id, "The job was cancelled", status="cancelled")
        if cancelled is None:
            raise refuse_ended(job_id)
        if before != "running":  # else the runner does it once the trainer has ended
            drop_trainer_state(jobs.job_dir(job_id), jobs.checkpoints(job_id))
        return cancelled

    @router.post("/{job_id}/pause")
    def pause_job(job_id: str) -> Job:
        working = {"validating_files", "queued", "running"}
        paused = change(job_id, "The job was paused", expected=working, status="paused")
        if paused is None and find(job_id).status != "paused":
            raise refuse_ended(job_id)
        return paused or find(job_id).show()

    @router.post("/{job_id}/resume")
    def resume_job(job_id: str) -> Job:
        job = find(job_id)
        status = "queued" if has_copies(job, jobs.job_dir(job_id)) else "validating_files"
        resumed = change(job_id, "The job was resumed", expected={"paused"}, status=status)
        if resumed is None and find(job_id).ended:
            raise refuse_ended(job_id)
        if resumed is None:
            message = f"Job {job_id} is not paused: {find(job_id).status}."
            raise ApiError(400, message, code="job_not_paused")
        return resumed

    @router.get("/{job_id}/events")
    def list_events(job_id: str, query: Annotated[PageQuery, Query()]) -> Page[Event]:
        return cut_page(jobs.events(find(job_id).id), query.limit, query.after)

    @router.get("/{job_id}/checkpoints")
    def list_checkpoints(job_id: str, query: Annotated[CheckpointsQuery, Query()]) -> Page[CheckpointObject]:
        job = find(job_id)
        found = [job.show_checkpoint(checkpoint) for checkpoint in reversed(jobs.checkpoints(job.id))]
        return cut_page(found, query.limit, query.after)

    return router


def name_asker() -> str | None:
    """The name of the API key that the request came with; None on a server without keys."""
    notes = get_notes()
    return None if notes is None or notes.key == NO_KEY else notes.key
