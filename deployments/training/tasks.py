"""What the Dags' tasks call: one function each, from settings to a small answer.

It knows no Airflow; the work itself is in `preparing`, `checking`, `jobs` and `promotion`.
"""

import logging
from dataclasses import asdict
from typing import Any

from deployments.training import composition
from deployments.training.checking import Verdict, check_proposal
from deployments.training.decision import Decision
from deployments.training.jobs import Purchase
from deployments.training.preparing import Prepared, prepare_examples
from deployments.training.promotion import choose_comparison, judge, promote
from deployments.training.proposals import Order, read_proposal
from deployments.training.sets import read_holdout, read_lines
from shared import contracts
from shared.settings import Settings

log = logging.getLogger(__name__)


def prepare(settings: Settings, run: str) -> Prepared:
    """Examples and knowledge to a frozen training set and a proposal. Raises VoiceError."""
    from shared.retrieval import retrieve
    from shared.vectors.port import ScoredChunk

    voice = composition.load_team_voice(settings)
    llm = composition.create_llm(settings)
    with composition.open_store(settings) as store:

        def find_chunks(topic: str) -> list[ScoredChunk]:
            top_k = voice.retrieval.top_k
            return retrieve(
                topic, llm=llm, embedding_model=settings.embedding_model, store=store, top_k=top_k
            )

        prepared = prepare_examples(
            content_dir=settings.content_dir,
            sets_dir=composition.training_dir(settings) / "sets",
            proposal_file=composition.proposal_file(settings),
            voice=voice,
            model=settings.chat_model,
            sessions=composition.create_ledger(settings),
            retrieve=find_chunks,
            run=run,
        )
    log.info("%s: %s", prepared.outcome, prepared.reason)
    return prepared


def check(settings: Settings) -> tuple[Verdict, dict[str, Any]]:
    """The verdict on the latest proposal, and the purchase that it allows (as `read_purchase` takes it)."""
    from deployments.training.tokens import load_encoder

    proposal = read_proposal(composition.proposal_file(settings))
    tokens = 0
    if proposal.order is not None:
        from pathlib import Path

        from deployments.training.pricing import count_tokens

        encode = load_encoder(proposal.order.model, composition.training_dir(settings) / "tokenizer")
        tokens = count_tokens(read_lines(Path(proposal.train_file)), encode)
    verdict = check_proposal(proposal, tokens)
    for reason in verdict.reasons:
        log.log(
            logging.INFO if verdict.outcome == "fine_tune" else logging.ERROR,
            "%s: %s",
            verdict.outcome,
            reason,
        )
    if proposal.order is None:
        return verdict, {}
    purchase = Purchase(proposal.order, tokens, verdict.price, proposal.currency)
    return verdict, asdict(purchase)


def read_purchase(raw: dict[str, Any]) -> Purchase:
    """The purchase that `check` handed over."""
    return Purchase(**{**raw, "order": Order(**raw["order"])})


def choose(settings: Settings) -> str:
    """Which comparison is due."""
    branch = choose_comparison(composition.create_registry(settings))
    log.info("%s", branch)
    return branch


def compare(settings: Settings, run: str) -> tuple[Decision, str]:
    """Judge the challenger; the decision and the challenger's version. Raises VoiceError, and LookupError where there
    is no challenger any more."""
    from pathlib import Path

    from deployments.training import records

    voice = composition.load_team_voice(settings)  # first: a mistake in it costs nothing
    registry = composition.create_registry(settings)
    challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    if challenger is None:
        raise LookupError(
            "The alias challenger is gone: someone has promoted or removed it. Nothing to compare."
        )
    with composition.create_ledger(settings)() as session:
        holdout = read_holdout(Path(records.get_training_set(session, challenger.training_set).holdout_file))
    decision = judge(
        challenger,
        registry.get_by_alias(contracts.CHAMPION_ALIAS),
        settings.chat_model,
        holdout,
        voice,
        composition.create_llm(settings),
        composition.create_tracker(settings),
        registry,
        run,
    )
    return decision, challenger.version


def crown(settings: Settings, version: str) -> None:
    """Make a version the champion."""
    promote(version, composition.create_registry(settings))


def release_failed_jobs(settings: Settings) -> int:
    """Let failed and cancelled jobs be tried again."""
    from deployments.training import records

    with composition.create_ledger(settings).begin() as session:
        released = records.release_failed_jobs(session)
    log.info("%d failed or cancelled jobs may be tried again", released)
    return released
