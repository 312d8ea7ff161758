"""The work of the Dag `prepare_examples`: example files and knowledge to a frozen training set and a proposal.

It knows neither Airflow nor the provider of jobs.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session, sessionmaker

from deployments.training import records
from deployments.training.preparation import (
    ContextItem,
    Problem,
    build_conversation,
    build_training_set,
    count_splits,
    digest_example,
    find_near_duplicates,
    find_too_long,
)
from deployments.training.proposals import Order, Proposal, write_proposal
from deployments.training.sets import freeze_set
from deployments.training.tuning.port import KnowsModel, Lengths
from shared import contracts
from shared.examples import Example, load_examples
from shared.ledger.models import FineTuningJob
from shared.llm.port import Message
from shared.prompt import PROMPT_VERSION, choose_decoding
from shared.vectors.port import Chunk
from shared.voice import Voice

log = logging.getLogger(__name__)

Outcome = Literal["no_knowledge_base", "nothing_due", "training_set"]
Retrieve = Callable[[str], Sequence[Chunk]]
Measure = Callable[[Sequence[Sequence[Message]]], Lengths | None]
"""Tokens of conversations and how many the model takes, or None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where to go next and why; `training_set` is None where the examples could not be frozen."""

    outcome: Outcome
    reason: str
    training_set: str | None
    counts: dict[str, int]


class _NoKnowledgeError(Exception):
    """Nothing was retrieved."""


def prepare_examples(
    *,
    content_dir: Path,
    sets_dir: Path,
    proposal_file: Path,
    voice: Voice,
    model: str,
    sessions: sessionmaker[Session],
    retrieve: Retrieve,
    measure: Measure,
    knows_model: KnowsModel,
    run: str,
) -> Prepared:
    """Load, pin, freeze, and say whether a training job is due. Doing it again changes nothing."""
    folder = content_dir / "examples"
    examples, errors = load_examples(folder)
    counts = count_splits(examples)
    log.info("%d examples in %s %s, %d malformed files", len(examples), folder, counts, len(errors))
    problems = [Problem(error.path.as_posix(), error.line, error.message) for error in errors]
    problems += find_near_duplicates(examples)

    order = None
    train_file = ""
    if not problems and all(counts.values()):
        try:
            contexts = _pin_contexts(examples, sessions, retrieve)
        except _NoKnowledgeError as error:
            return Prepared("no_knowledge_base", str(error), None, counts)
        built = build_training_set(examples, contexts, voice)
        files = freeze_set(built, sets_dir)
        train_file = str(files["train"])
        rows = [
            {
                "path": example.path.relative_to(folder).as_posix(),
                "split": example.split,
                "digest": (digest := digest_example(example.topic, example.text)),
                "chunk_ids": [item.chunk_id for item in contexts[digest]],
            }
            for example in examples
        ]
        budget = voice.budget
        order = Order(built.digest, model, budget.n_epochs, budget.learning_rate_multiplier, budget.suffix)
        with sessions.begin() as session:
            records.save_training_set(session, built.digest, files, rows, counts, PROMPT_VERSION, run)
        log.info("training set %s is frozen in %s", built.digest, files["train"].parent)
        with sessions() as session:
            job = records.find_job(session, order)
        if job is not None and (reason := _explain_settled(job, knows_model)):
            return Prepared("nothing_due", reason, built.digest, counts)
        if job is None or not records.is_under_way(job):  # a job that is there already is seen through
            problems += _find_too_long(examples, contexts, voice, measure)
    write_proposal(
        Proposal(
            order=order,
            train_file=train_file,
            counts=counts,
            problems=tuple(problems),
            price_per_million=voice.budget.price_per_million_tokens,
            budget=voice.budget.max_training_cost,
            currency=voice.budget.currency,
            run=run,
        ),
        proposal_file,
    )
    reason = f"{len(problems)} problems in the examples" if problems else f"{counts} examples to be checked"
    return Prepared("training_set", reason, order.training_set if order else None, counts)


def _find_too_long(
    examples: Sequence[Example], contexts: Mapping[str, list[ContextItem]], voice: Voice, measure: Measure
) -> list[Problem]:
    """Before anything is bought: the trainer would refuse these, or the exam could not be written."""
    conversations = [
        build_conversation(each, contexts[digest_example(each.topic, each.text)], voice) for each in examples
    ]
    exams = [
        (each.path, conversation[:-1])
        for each, conversation in zip(examples, conversations, strict=True)
        if each.split == "holdout"
    ]
    lengths = measure([*conversations, *(prompt for _, prompt in exams)])
    if lengths is None:
        return []
    longest = max(lengths.tokens, default=0)
    log.info("the longest example has %d tokens, the model takes %d", longest, lengths.limit)
    tokens, asked = lengths.tokens[: len(examples)], lengths.tokens[len(examples) :]
    prompts = dict(zip((path for path, _ in exams), asked, strict=True))
    return find_too_long(examples, tokens, prompts, choose_decoding(voice).max_tokens, lengths.limit)


def _explain_settled(job: FineTuningJob, knows_model: KnowsModel) -> str:
    """Why no job is due; empty where one is."""
    released = job.status == records.RELEASED
    if not released and not records.is_settled(job):
        return ""
    name = f"training set {job.training_set[:12]}"
    if job.model_version is None:
        return f"{name} waits for a person. {records.describe_failure(job)}; {contracts.TRY_AGAIN}"
    version = f"{name} has version {job.model_version} (job {job.job_id})"
    if knows_model(job.model_id or ""):
        return f"examples, prompt and settings are as they were: {version}"
    if released:
        return ""
    return (
        f"{version}, but the model {job.model_id} is not at the provider any more; "
        "`ghostwriter train start` trains it again"
    )


def _pin_contexts(
    examples: Sequence[Example], sessions: sessionmaker[Session], retrieve: Retrieve
) -> dict[str, list[ContextItem]]:
    topics = {digest_example(example.topic, example.text): example.topic for example in examples}
    with sessions() as session:
        if not records.has_knowledge(session):
            raise _NoKnowledgeError("no ingest run has finished yet; its event starts this Dag again")
        contexts = records.load_contexts(session, topics)
    missing = {digest: topic for digest, topic in topics.items() if digest not in contexts}
    started = time.monotonic()
    new: dict[str, list[ContextItem]] = {}
    for number, (digest, topic) in enumerate(missing.items(), 1):
        chunks = retrieve(topic)
        if not chunks:
            raise _NoKnowledgeError(f"the knowledge base has nothing on {topic!r}: is it empty?")
        new[digest] = [
            ContextItem(chunk.id, chunk.uri, chunk.content_hash, chunk.title, chunk.text) for chunk in chunks
        ]
        if number % 20 == 0:
            log.info("context for %d of %d examples", number, len(missing))
    with sessions.begin() as session:
        records.pin_contexts(session, new)
    seconds = time.monotonic() - started
    log.info("context: %d pinned before, %d new in %.1f s", len(contexts), len(new), seconds)
    return {**contexts, **new}
