"""What the ledger keeps of the exams: the posts of both models, and how many verdicts a holdout has seen.

It knows no model and no rule; what a pair's key and a holdout's digest are made of is decided here.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from deployments.training.sets import HoldoutExample
from shared.ledger.models import PromotionVerdict
from shared.prompt import choose_decoding
from shared.voice import Voice


def digest_holdout(holdout: Sequence[HoldoutExample]) -> str:
    """sha256 hex over topics and posts, whatever their order: prompts and file names make no new holdout."""
    return _digest(sorted([example.topic, example.reference] for example in holdout))


def digest_exam(
    challenger: Sequence[str], rival: Sequence[str], holdout: Sequence[HoldoutExample], voice: Voice
) -> str:
    """sha256 hex over both models (version and id) and all that their scores stand on: prompts, posts and the voice."""
    examples = [[example.messages, example.reference] for example in holdout]
    form = voice.model_dump(mode="json", exclude={"budget", "picture", "topics", "retrieval"})
    return _digest([list(challenger), list(rival), examples, form, asdict(choose_decoding(voice))])


def open_verdict(
    session: Session, key: str, holdout: str, challenger: str, rival: str | None
) -> PromotionVerdict:
    """The row of this exam, created where there is none."""
    row = session.get(PromotionVerdict, key)
    if row is None:
        row = PromotionVerdict(key=key, holdout=holdout, challenger=challenger, rival=rival, texts={})
        session.add(row)
        session.flush()
    return row


def keep_texts(session: Session, key: str, model_id: str, texts: Sequence[str]) -> None:
    """Keep what a model wrote."""
    row = session.get_one(PromotionVerdict, key)
    row.texts = {**row.texts, model_id: list(texts)}


def number_verdict(session: Session, key: str) -> int:
    """Which verdict on its holdout this is, counted from 1; asked again it has the same number."""
    row = session.get_one(PromotionVerdict, key)
    if row.number is None:
        last = session.scalar(
            select(func.max(PromotionVerdict.number)).where(PromotionVerdict.holdout == row.holdout)
        )
        row.number = (last or 0) + 1
    return row.number


def keep_outcome(session: Session, key: str, promote: bool) -> None:
    """Keep which way it went."""
    session.get_one(PromotionVerdict, key).promote = promote


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True, sort_keys=True).encode()).hexdigest()
