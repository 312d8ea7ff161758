"""What the Dags' tasks call: one function each, from settings to a small answer.

It knows no Airflow; the work itself is in `preparing`, `checking`, `jobs` and `promotion`.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from deployments.training import composition, jobs
from deployments.training.checking import Verdict, check_proposal
from deployments.training.decision import Decision
from deployments.training.preparing import Prepared, prepare_examples
from deployments.training.promotion import Judgement, OvertakenError, crown_winner, find_pairing, judge
from deployments.training.proposals import Order, read_proposal
from deployments.training.sets import read_holdout, read_lines
from deployments.training.tuning.port import Lengths
from shared.llm.port import LlmError, Message
from shared.settings import Settings

log = logging.getLogger(__name__)


def prepare(settings: Settings, run: str) -> Prepared:
    """Examples and knowledge to a frozen training set and a proposal. Raises VoiceError and RetrievalSettingsError."""
    from shared.retrieval import retrieve
    from shared.retrieval_settings import load_retrieval_settings
    from shared.vectors.port import Chunk

    voice = composition.load_team_voice(settings)
    retrieval = load_retrieval_settings(settings.content_dir / "retrieval.toml")
    sessions = composition.create_ledger(settings)
    llm = composition.create_llm(settings)
    with composition.open_store(settings) as store:

        def find_chunks(topic: str) -> list[Chunk]:
            found = retrieve(
                topic,
                llm=llm,
                embedding_model=settings.embedding_model,
                store=store,
                sessions=sessions,
                settings=retrieval,
                top_k=voice.retrieval.top_k,
            )
            if not found.answered:  # an example teaches the form, whatever it is about
                log.warning("hardly anything in the knowledge is about %r", topic)
            return [passage.chunk for passage in found.passages]

        prepared = prepare_examples(
            content_dir=settings.content_dir,
            sets_dir=composition.training_dir(settings) / "sets",
            proposal_file=composition.proposal_file(settings),
            voice=voice,
            model=settings.chat_model,
            sessions=sessions,
            retrieve=find_chunks,
            measure=lambda conversations: measure(settings, conversations),
            knows_model=ask_for_models(settings),
            run=run,
        )
    log.info("%s: %s", prepared.outcome, prepared.reason)
    return prepared


def measure(settings: Settings, conversations: Sequence[Sequence[Message]]) -> Lengths | None:
    """Tokens as the model's provider counts them, else as tiktoken does, against the limit in the settings."""
    lengths = composition.create_tuning(settings).measure(settings.chat_model, conversations)
    if lengths is not None or not settings.max_example_tokens:
        return lengths
    from deployments.training.pricing import count_example
    from deployments.training.tokens import load_encoder

    encode = load_encoder(settings.chat_model, composition.training_dir(settings) / "tokenizer")
    counts = (count_example(messages, encode) for messages in conversations)
    return Lengths(tuple(counts), settings.max_example_tokens)


def ask_for_models(settings: Settings) -> Callable[[str], bool]:
    """Whether the provider has a model. Where it can't say, the ledger is believed: a doubt buys nothing."""
    llm = composition.create_llm(settings)

    def knows_model(model: str) -> bool:
        try:
            return llm.knows_model(model)
        except LlmError as error:
            log.warning("whether there is the model %s can't be said: %s", model, error)
            return True

    return knows_model


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
    affordable = verdict.outcome != "over_budget"
    if not affordable and proposal.order is not None:
        ledger, tuning = composition.create_ledger(settings), composition.create_tuning(settings)
        verdict = check_proposal(proposal, tokens, job_exists=jobs.has_job(proposal.order, ledger, tuning))
    for reason in verdict.reasons:
        log.log(
            logging.INFO if verdict.outcome == "fine_tune" else logging.ERROR,
            "%s: %s",
            verdict.outcome,
            reason,
        )
    if proposal.order is None:
        return verdict, {}
    purchase = jobs.Purchase(proposal.order, tokens, verdict.price, proposal.currency, affordable)
    return verdict, asdict(purchase)


def read_purchase(raw: dict[str, Any]) -> jobs.Purchase:
    """The purchase that `check` handed over."""
    return jobs.Purchase(**{**raw, "order": Order(**raw["order"])})


def choose(settings: Settings) -> str:
    """Which comparison is due. Raises LlmError where the provider can't say which models it has."""
    pairing = find_pairing(composition.create_registry(settings), composition.create_llm(settings))
    branch = "no_challenger" if pairing is None else "no_champion" if pairing.rival is None else "compare"
    log.info("%s", branch)
    return branch


def compare(settings: Settings, run: str) -> tuple[Decision, dict[str, Any]]:
    """Judge the challenger; the decision, and what a promotion would stand on, for `crown`.

    Raises OvertakenError where there is nothing to compare any more, VoiceError and LlmError.
    """
    from pathlib import Path

    from deployments.training import records

    voice = composition.load_team_voice(settings)  # first: a mistake in it costs nothing
    registry, llm = composition.create_registry(settings), composition.create_llm(settings)
    pairing = find_pairing(registry, llm)
    if pairing is None:
        raise OvertakenError("There is nothing to compare any more; the line above says why.")
    sessions = composition.create_ledger(settings)
    with sessions() as session:
        files = records.get_training_set(session, pairing.challenger.training_set)
    decision = judge(
        pairing,
        settings.chat_model,
        read_holdout(Path(files.holdout_file)),
        voice,
        llm=llm,
        tracker=composition.create_tracker(settings),
        registry=registry,
        sessions=sessions,
        airflow_run=run,
    )
    champion = pairing.champion.version if pairing.champion else None
    return decision, asdict(Judgement(pairing.challenger.version, champion))


def crown(settings: Settings, judgements: Iterable[dict[str, Any]]) -> None:
    """Make the winner the champion; each judgement as `compare` gave it. Raises OvertakenError where none stands."""
    given = [Judgement(**judgement) for judgement in judgements]
    crown_winner(given, composition.create_registry(settings))


def release_jobs(settings: Settings) -> int:
    """Let failed and cancelled jobs, and those whose model is lost, be tried again."""
    ledger, tuning = composition.create_ledger(settings), composition.create_tuning(settings)
    released = jobs.release_jobs(ledger, tuning, ask_for_models(settings))
    log.info("%d jobs that failed, were cancelled or lost their model may be tried again", released)
    return released
