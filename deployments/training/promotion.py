"""The work of the Dag `promote_champion`: both models sit the same exam, a rule decides, the registry follows.

It knows neither Airflow nor how a model was trained.
"""

import json
import logging
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session, sessionmaker

from deployments.training import verdicts
from deployments.training.decision import Decision, decide
from deployments.training.results import Point
from deployments.training.scoring import score_post
from deployments.training.sets import HoldoutExample
from deployments.training.tracking.port import Tracker
from shared import contracts
from shared.ledger.models import PromotionVerdict
from shared.llm.port import Llm
from shared.prompt import choose_decoding
from shared.registry.port import ModelRegistry, ModelVersion
from shared.voice import Voice

log = logging.getLogger(__name__)

CONCURRENCY = 16
"""Requests at once while the holdout is written: the LLM server batches them, and sixteen answers take little longer
than four."""


class OvertakenError(RuntimeError):
    """Things have changed since this was asked for, and there is nothing left to do; the message says what changed."""


@dataclass(frozen=True, slots=True)
class Exam:
    """What a model wrote for the holdout, and the score of each post."""

    model_id: str
    texts: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean score."""
        return sum(self.scores) / len(self.scores) if self.scores else float("nan")


@dataclass(frozen=True, slots=True)
class Pairing:
    """Who meets whom. `champion` has the alias; `rival` is None where the challenger meets the base model."""

    challenger: ModelVersion
    champion: ModelVersion | None
    rival: ModelVersion | None
    note: str = ""

    @property
    def rival_name(self) -> str:
        """For people."""
        return f"version {self.rival.version}" if self.rival else contracts.BASE_ALIAS


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a promotion stands on: these two versions had the aliases when the challenger won (None: no champion)."""

    challenger: str
    champion: str | None


def find_pairing(registry: ModelRegistry, llm: Llm) -> Pairing | None:
    """Who is to be compared now; None where nobody is, and the log says why.

    A champion that the provider doesn't know counts as none. Raises LlmError where the provider can't say: nobody loses
    a place because a provider is down.
    """
    challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    champion = registry.get_by_alias(contracts.CHAMPION_ALIAS)
    if challenger is None:
        log.info("no version has the alias challenger: nothing to decide")
        return None
    if champion is not None and champion.version == challenger.version:
        log.info("version %s is the champion already: nothing to decide", champion.version)
        return None
    if not llm.knows_model(challenger.model_id):
        log.warning(
            "the provider doesn't know the challenger, version %s (%s): it can't be judged; train anew",
            challenger.version, challenger.model_id,
        )  # fmt: skip
        return None
    if champion is None or llm.knows_model(champion.model_id):
        return Pairing(challenger, champion, champion)
    note = (
        f"the provider doesn't know the champion, version {champion.version} ({champion.model_id}): "
        "it counts as none, the challenger meets the base model"
    )
    log.warning("%s", note)
    return Pairing(challenger, champion, None, note)


def sit_exam(model_id: str, holdout: Sequence[HoldoutExample], voice: Voice, llm: Llm) -> tuple[str, ...]:
    """Let a model write for every holdout prompt, its likeliest words.

    Not the same every time: the last digits of a sum hang on what else the provider computes just then, and now and
    then a word with them. What was written is therefore kept, and a retry judges that.
    """
    started = time.monotonic()
    decoding = choose_decoding(voice)

    def write(example: HoldoutExample) -> str:
        text = llm.complete_chat(model_id, example.messages, decoding)
        return text.encode(errors="ignore").decode().replace("\0", "").strip()  # what Postgres can keep

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        texts = tuple(pool.map(write, holdout))
    log.info("%s: %d posts in %.1f s", model_id, len(texts), time.monotonic() - started)
    return texts


def judge(
    pairing: Pairing,
    base_model: str,
    holdout: Sequence[HoldoutExample],
    voice: Voice,
    *,
    llm: Llm,
    tracker: Tracker,
    registry: ModelRegistry,
    sessions: sessionmaker[Session],
    airflow_run: str,
) -> Decision:
    """Compare the challenger with its rival and record it. The same pair, holdout and voice again: the same posts,
    the same number, the same decision."""
    challenger, rival_name = pairing.challenger, pairing.rival_name
    rival_id = pairing.rival.model_id if pairing.rival else base_model
    holdout_digest = verdicts.digest_holdout(holdout)
    key = verdicts.digest_exam(
        (challenger.version, challenger.model_id), (rival_name, rival_id), holdout, voice
    )
    with sessions.begin() as session:
        rival_version = pairing.rival.version if pairing.rival else None
        verdicts.open_verdict(session, key, holdout_digest, challenger.version, rival_version)
    # A run for each exam: what a tracker keeps can't be changed afterwards.
    name = f"promote version {challenger.version} over {rival_name}"
    tags = {contracts.TRAINING_SET_TAG: challenger.training_set, "ghostwriter.airflow_run": airflow_run}
    run_id = tracker.open_run(name, f"promotion:{key}", tags)

    rival_exam = _examine(key, rival_id, holdout, voice, llm, sessions)
    exam = _examine(key, challenger.model_id, holdout, voice, llm, sessions)
    with sessions.begin() as session:
        number = verdicts.number_verdict(session, key)
    decision = decide(rival_exam.scores, exam.scores, number)
    with sessions.begin() as session:
        verdicts.keep_outcome(session, key, decision.promote)
    log.info("%s: %s", "promoted" if decision.promote else "kept", decision.reason)

    tracker.log_params(run_id, {"challenger": challenger.version, "against": rival_name})
    tracker.log_dataset(run_id, "holdout", challenger.training_set, "holdout", {"holdout": len(holdout)})
    numbers = {
        "champion_score": rival_exam.mean,
        "challenger_score": exam.mean,
        "mean_difference": decision.mean_difference,
        "low": decision.low,
        "high": decision.high,
        "p_value": decision.p_value,
        "level": decision.level,
        "promoted": float(decision.promote),
    }
    tracker.log_points(run_id, [Point(key, 0, value) for key, value in numbers.items()])
    record = {
        **asdict(decision),
        "challenger": {"version": challenger.version, "model_id": challenger.model_id, "score": exam.mean},
        "against": {"name": rival_name, "model_id": rival_id, "score": rival_exam.mean},
        "training_set": challenger.training_set,
        "holdout": holdout_digest,
        "number": number,
        "note": pairing.note,
    }
    tracker.log_file(run_id, "decision.json", json.dumps(record, indent=1).encode())
    tracker.log_table(
        run_id,
        "posts.json",
        {
            "topic": [example.topic for example in holdout],
            "reference": [example.reference for example in holdout],
            "champion": rival_exam.texts,
            "challenger": exam.texts,
            "champion_score": rival_exam.scores,
            "challenger_score": exam.scores,
        },
    )
    registry.set_scores(
        challenger.version,
        {
            "score": exam.mean,
            "rival_score": rival_exam.mean,
            "mean_difference": decision.mean_difference,
            "low": decision.low,
            "high": decision.high,
            "p_value": decision.p_value,
        },
    )
    tracker.close_run(run_id)
    return decision


def crown_winner(judgements: Iterable[Judgement], registry: ModelRegistry) -> None:
    """Make the winner the champion, or raise OvertakenError: its judgement no longer stands, and nothing moves.

    It stands while both aliases are where they were when it was given: a rollback, a newer challenger or a newer
    champion ends it. Several judgements are tries of one run; the first that stands counts. Twice is once.
    """
    reasons = []
    for judgement in judgements:
        reason = _crown(judgement, registry)
        if not reason:
            log.info("version %s is the champion", judgement.challenger)
            return
        reasons.append(f"Version {judgement.challenger} is not made the champion: {reason}.")
    raise OvertakenError(" ".join(reasons) or "No judgement was handed over.")


def _crown(judgement: Judgement, registry: ModelRegistry) -> str:
    champion = registry.get_by_alias(contracts.CHAMPION_ALIAS)
    if champion is None or champion.version != judgement.challenger:  # else an earlier try has moved it
        challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
        if challenger is None or challenger.version != judgement.challenger:
            return f"the challenger is {_name(challenger)} now"
        alias, version = contracts.CHAMPION_ALIAS, judgement.challenger
        if not registry.move_alias(alias, version, expected=judgement.champion):
            before = f"version {judgement.champion}" if judgement.champion else "nobody"
            now = _name(registry.get_by_alias(alias))
            return f"it was judged while the champion was {before}, and the champion is {now} now"
    registry.move_alias(contracts.CHALLENGER_ALIAS, None, expected=judgement.challenger)
    return ""


def _examine(
    key: str,
    model_id: str,
    holdout: Sequence[HoldoutExample],
    voice: Voice,
    llm: Llm,
    sessions: sessionmaker[Session],
) -> Exam:
    """The model's exam; its posts are asked for once and kept."""
    with sessions() as session:
        known = session.get_one(PromotionVerdict, key).texts.get(model_id)
    texts = tuple(known) if known else sit_exam(model_id, holdout, voice, llm)
    if known:
        log.info("%s: the posts of an earlier try are judged", model_id)
    else:
        with sessions.begin() as session:
            verdicts.keep_texts(session, key, model_id, texts)
    scores = tuple(score_post(text, e.reference, voice) for text, e in zip(texts, holdout, strict=True))
    exam = Exam(model_id, texts, scores)
    log.info("%s: mean score %.4f", model_id, exam.mean)
    return exam


def _name(version: ModelVersion | None) -> str:
    return f"version {version.version}" if version else "nobody"
