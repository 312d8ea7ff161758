"""One job's training from its folder to its adapter, from the newest checkpoint on where there is one.

It knows the job's folder and the settings given, no server and no signal.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from deployments.llm.engines.torch.device import count_training_threads
from deployments.llm.engines.weights import name_weights
from deployments.llm.fine_tuning.examples import read_examples, read_preferences
from deployments.llm.fine_tuning.folder import (
    ADAPTER_FOLDER,
    TRAIN_FILE,
    VALIDATION_FILE,
    checkpoint_dir,
    read_base,
)
from deployments.llm.fine_tuning.job import Job
from deployments.llm.fine_tuning.store import append_event
from deployments.llm.trainer.checkpoints import copy_adapter, find_resumable, remove_leftovers
from deployments.llm.trainer.data import Example, encode_examples
from deployments.llm.trainer.durable import build_arguments
from deployments.llm.trainer.metrics import Row, choose_best
from deployments.llm.trainer.model import Base, add_adapter, describe_adapter, load_base
from deployments.llm.trainer.progress import SAVE_SECONDS, Progress
from deployments.llm.trainer.supervised import SupervisedTrainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Plan:
    """A trainer that waits, and how many tokens each of its examples has."""

    trainer: Any
    lengths: list[int]


def train_job(
    job_dir: Path,
    job: Job,
    weights: str,
    *,
    max_tokens: int,
    threads: int = 0,
) -> int:
    """Trains and leaves adapter and table in the job's folder; the tokens trained on.

    `weights` is a folder or hub id, `max_tokens` the longest example allowed. Raises ValueError for what the job's
    owner can change, and what transformers raises.
    """
    _settle(job.seed, threads or count_training_threads())
    remove_leftovers(job_dir)
    base = load_base(weights)
    build = _plan_preferences if job.method_type == "dpo" else _plan_supervised
    plan = build(job_dir, job, base, min(max_tokens, base.model.config.max_position_embeddings))
    parameters = job.hyperparameters
    steps_per_epoch = -(-len(plan.lengths) // parameters.batch_size)
    if parameters.early_stopping_patience and not job.validation_file:
        append_event(job_dir, "Without a validation file nothing is stopped early", level="warn")
    progress = Progress(
        job_dir,
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * parameters.n_epochs,
        validates=job.validation_file is not None,
        patience=parameters.early_stopping_patience,
        save_seconds=SAVE_SECONDS,
    )
    plan.trainer.track(job_dir, progress, plan.lengths, parameters)
    checkpoint = _find_start(job_dir, progress, name_weights(weights))
    log.info(
        "%d examples, %d tokens an epoch, %d steps an epoch, on %s as %s",
        len(plan.lengths),
        sum(plan.lengths),
        steps_per_epoch,
        base.model.device,
        base.dtype,
    )
    if not progress.done:
        plan.trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    chosen = _choose_epoch(progress.rows, parameters.early_stopping_patience)
    copy_adapter(checkpoint_dir(job_dir, chosen.step), job_dir / ADAPTER_FOLDER)
    progress.write(job_dir)
    if chosen is not progress.rows[-1]:
        append_event(
            job_dir, f"The adapter of epoch {progress.epoch_of(chosen.step)} is kept: it is the best one"
        )
    return sum(plan.lengths) * (progress.rows[-1].step // steps_per_epoch)


def _settle(seed: int, threads: int) -> None:
    """The same numbers for the same seed on one machine."""
    torch.set_num_threads(threads)
    if torch.cuda.is_available():  # slower there, and not known for every operation
        torch.use_deterministic_algorithms(True, warn_only=True)
    set_seed(seed)


def _plan_supervised(job_dir: Path, job: Job, base: Base, limit: int) -> _Plan:
    examples, held_out = (
        encode_examples(base.tokenizer, read_examples(content), limit) if content else []
        for content in _read_files(job_dir, job)
    )
    config = describe_adapter(job.hyperparameters.lora_rank, job.hyperparameters.lora_alpha)
    arguments = _build_arguments(TrainingArguments, job, base)
    model = add_adapter(base, config)
    threads = torch.get_num_threads()
    trainer = SupervisedTrainer(model, arguments, examples, held_out, base.dtype, threads)
    return _Plan(trainer, _lengths(examples))


def _plan_preferences(job_dir: Path, job: Job, base: Base, limit: int) -> _Plan:
    from deployments.llm.trainer import dpo

    pairs, held_out = (
        dpo.encode_pairs(base.tokenizer, read_preferences(content), limit) if content else []
        for content in _read_files(job_dir, job)
    )
    parameters = job.hyperparameters
    trainer = dpo.PreferenceTrainer(
        model=base.model,
        args=_build_arguments(dpo.Arguments, job, base, beta=parameters.beta or 0.1, max_length=None),
        train_dataset=dpo.build_dataset(pairs),
        eval_dataset=dpo.build_dataset(held_out) if held_out else None,
        processing_class=base.tokenizer,
        peft_config=describe_adapter(parameters.lora_rank, parameters.lora_alpha),
    )
    return _Plan(trainer, [sum(_lengths(pair)) for pair in pairs])


def _read_files(job_dir: Path, job: Job) -> tuple[bytes, bytes]:
    validation = (job_dir / VALIDATION_FILE).read_bytes() if job.validation_file else b""
    return (job_dir / TRAIN_FILE).read_bytes(), validation


def _build_arguments(kind: type[TrainingArguments], job: Job, base: Base, **more: Any) -> Any:
    return build_arguments(
        kind,
        job.hyperparameters,
        seed=job.seed,
        cpu=base.model.device.type == "cpu",
        bf16=base.dtype == torch.bfloat16 and kind is not TrainingArguments,
        **more,
    )


def _find_start(job_dir: Path, progress: Progress, base: str) -> Path | None:
    checkpoint, damaged = find_resumable(job_dir)
    for name in damaged:
        append_event(job_dir, f"The checkpoint {name} is damaged and left out", level="warn")
    if checkpoint is None:
        return None
    begun = read_base(checkpoint)
    if begun and begun != base:
        raise ValueError(
            f"The job began on the base model {begun}, and GHOSTWRITER_LLM_BASE_MODEL names {base} now: "
            "order a new job."
        )
    progress.resume(checkpoint)
    message = f"Resuming after step {progress.rows[-1].step} from its checkpoint"
    append_event(job_dir, message)
    log.info(message)
    return checkpoint


def _choose_epoch(rows: list[Row], patience: int) -> Row:
    """The last one; with early stopping the best one."""
    best = choose_best(rows) if patience else None
    return best or rows[-1]


def _lengths(examples: "list[Example] | tuple[Example, ...]") -> list[int]:
    return [example.length for example in examples]
