"""The work of the Dag `promote_champion`: both models sit the same exam, a rule decides, the registry follows.

It knows neither Airflow nor how a model was trained.
"""

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

from deployments.training.decision import Decision, decide
from deployments.training.results import Point
from deployments.training.scoring import score_post
from deployments.training.sets import HoldoutExample
from deployments.training.tracking.port import Tracker
from shared import contracts
from shared.llm.port import Llm
from shared.prompt import choose_decoding
from shared.registry.port import ModelRegistry, ModelVersion
from shared.voice import Voice

log = logging.getLogger(__name__)

CONCURRENCY = 16
"""Requests at once while the holdout is written: the LLM server batches them, and sixteen answers take little longer
than four."""


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


def choose_comparison(registry: ModelRegistry) -> Literal["no_challenger", "no_champion", "compare"]:
    """Which branch to take."""
    challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    champion = registry.get_by_alias(contracts.CHAMPION_ALIAS)
    if challenger is None or (champion is not None and champion.version == challenger.version):
        return "no_challenger"
    return "no_champion" if champion is None else "compare"


def sit_exam(model_id: str, holdout: Sequence[HoldoutExample], voice: Voice, llm: Llm) -> Exam:
    """Let a model write for every holdout prompt, without chance, and score what it wrote."""
    started = time.monotonic()
    decoding = choose_decoding(voice)

    def write(example: HoldoutExample) -> str:
        return llm.complete_chat(model_id, example.messages, decoding).strip()

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        texts = tuple(pool.map(write, holdout))
    scores = tuple(score_post(text, e.reference, voice) for text, e in zip(texts, holdout, strict=True))
    exam = Exam(model_id, texts, scores)
    seconds = time.monotonic() - started
    log.info("%s: %d posts in %.1f s, mean score %.4f", model_id, len(texts), seconds, exam.mean)
    return exam


def judge(
    challenger: ModelVersion,
    champion: ModelVersion | None,
    base_model: str,
    holdout: Sequence[HoldoutExample],
    voice: Voice,
    llm: Llm,
    tracker: Tracker,
    registry: ModelRegistry,
    airflow_run: str,
) -> Decision:
    """Compare the challenger with the champion, or with the base model where there is none, and record it."""
    rival_id = champion.model_id if champion else base_model
    rival_name = f"version {champion.version}" if champion else contracts.BASE_ALIAS
    name = f"promote version {challenger.version} over {rival_name}"
    tags = {contracts.TRAINING_SET_TAG: challenger.training_set, "ghostwriter.airflow_run": airflow_run}
    run_id = tracker.open_run(name, f"promotion:{airflow_run}", tags)
    rival_exam = sit_exam(rival_id, holdout, voice, llm)
    exam = sit_exam(challenger.model_id, holdout, voice, llm)
    decision = decide(rival_exam.scores, exam.scores)
    log.info("%s: %s", "promoted" if decision.promote else "kept", decision.reason)

    tracker.log_params(run_id, {"challenger": challenger.version, "against": rival_name})
    tracker.log_dataset(run_id, "holdout", challenger.training_set, "holdout", {"holdout": len(holdout)})
    numbers = {
        "champion_score": rival_exam.mean,
        "challenger_score": exam.mean,
        "mean_difference": decision.mean_difference,
        "low": decision.low,
        "high": decision.high,
        "promoted": float(decision.promote),
    }
    tracker.log_points(run_id, [Point(key, 0, value) for key, value in numbers.items()])
    record = {
        **asdict(decision),
        "challenger": {"version": challenger.version, "model_id": challenger.model_id, "score": exam.mean},
        "against": {"name": rival_name, "model_id": rival_id, "score": rival_exam.mean},
        "training_set": challenger.training_set,
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
        },
    )
    tracker.close_run(run_id)
    return decision


def promote(version: str, registry: ModelRegistry) -> None:
    """Make a version the champion; a loser keeps its alias until the next challenger takes it."""
    registry.set_alias(contracts.CHAMPION_ALIAS, version)
    challenger = registry.get_by_alias(contracts.CHALLENGER_ALIAS)
    if challenger is not None and challenger.version == version:
        registry.delete_alias(contracts.CHALLENGER_ALIAS)
    log.info("version %s is the champion", version)
