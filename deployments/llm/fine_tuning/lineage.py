"""Tells lineage what a fine-tuning job read and made.

It knows no process; a failure here is logged and never stops a job.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from deployments.llm.fine_tuning.job import Job

log = logging.getLogger(__name__)

EventType = Literal["START", "COMPLETE", "FAIL", "ABORT"]
Emit = Callable[[EventType, str, Job], None]


def build_emitter(spool_dir: Path) -> Emit:
    """A function that spools one run event of a job; `run_id` is a UUID, one per attempt."""

    def emit(event_type: EventType, run_id: str, job: Job) -> None:
        try:
            from shared import contracts
            from shared.lineage import LineageSpool, dataset_facets

            # Where a client's metadata has one of our names, ours holds.
            details = {**job.metadata, **_describe(job)}
            facets: dict[str, dict[str, Any]] = {"ghostwriter": {"details": details}}
            if job.error:
                facets["errorMessage"] = {"message": job.error.message, "programmingLanguage": "python"}
            LineageSpool(directory=spool_dir, deployment="llm").emit(
                event_type,
                run_id,
                job_namespace=contracts.LLM_NAMESPACE,
                job_name="fine_tuning_job",
                inputs=[contracts.TRAINING_SET],
                outputs=[contracts.ADAPTERS],
                run_facets=facets,
                output_facets={contracts.ADAPTERS: dataset_facets(version=job.fine_tuned_model)},
            )
        except Exception:
            log.exception("The lineage event %s of %s could not be spooled", event_type, job.id)

    return emit


def _describe(job: Job) -> dict[str, Any]:
    """In the words of the lineage page; no text of a file's."""
    details = {
        "fine-tuning job": job.id,
        "method": job.method_type,
        "base model": job.model,
        "training file": job.training_file,
        "fine-tuned model": job.fine_tuned_model,
        "trained tokens": job.trained_tokens,
    }
    return {key: value for key, value in details.items() if value is not None}
