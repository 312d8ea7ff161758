"""How well the knowledge is found: rankings and refusals over labelled questions, and whether a change is a worse one.

It knows no store, no provider and no tracking server.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FIGURES: Final = ("ndcg", "recall", "rr", "refusal_recall", "refusal_precision")
DOCUMENTS: Final = 10  # of a ranking, that count


class QuestionsError(ValueError):
    """The labelled questions can't be used; the message names file and line."""


class Question(BaseModel):
    """A question and the documents that answer it: 2 in full, 1 in part. None answers what must be refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(min_length=1)
    kind: str = ""  # near and far: nothing answers; else how it is put
    answers: Mapping[str, int]


@dataclass(frozen=True)
class Finding:
    """What a search answers: URIs of documents, best first, and whether it says that they answer."""

    ranking: Sequence[str]
    answered: bool


@dataclass(frozen=True)
class Quality:
    """Means over the questions; all from 0 to 1, and higher is better.

    `refusal_recall` is the share of unanswerable questions that were refused, `refusal_precision` the share of refusals
    that were of such; it is 1 where nothing was refused. `by_question` has the nDCG@10 of each answerable question.
    """

    ndcg: float  # nDCG@10
    recall: float  # of documents, among the first five
    rr: float  # reciprocal rank of the first that answers
    refusal_recall: float
    refusal_precision: float
    answerable: int
    unanswerable: int
    by_question: Mapping[str, float] = field(default_factory=dict, repr=False)

    def describe(self) -> dict[str, float]:
        """The figures by name, for a record."""
        return {name: round(float(getattr(self, name)), 4) for name in FIGURES}


@dataclass(frozen=True)
class Comparison:
    """Of two settings on the same questions: how much more nDCG@10 the second has, and how likely by luck alone."""

    difference: float
    p: float  # two-sided, of a paired randomisation test; 1 where no question differs


Find = Callable[[str], Finding]


def load_questions(path: Path) -> list[Question]:
    """The questions of a JSON Lines file; raises QuestionsError."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise QuestionsError(f"{path}: can't be read: {error}") from error
    questions: list[Question] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            questions.append(Question.model_validate(json.loads(line)))
        except (ValueError, ValidationError) as error:
            raise QuestionsError(f"{path}:{number}: {error}") from error
    twice = {
        one.question for one in questions if sum(one.question == other.question for other in questions) > 1
    }
    if twice:
        raise QuestionsError(f"{path}: asked twice: {', '.join(sorted(twice))}")
    return questions


def select_askable(questions: Iterable[Question], uris: Iterable[str]) -> list[Question]:
    """The questions whose documents are all in the knowledge, and those that nothing answers."""
    known = set(uris)
    return [one for one in questions if known.issuperset(one.answers)]


def measure(questions: Sequence[Question], find: Find) -> Quality:
    """Ask everything once. Raises what `find` raises, and QuestionsError where nothing can be measured."""
    answerable = [one for one in questions if one.answers]
    unanswerable = [one for one in questions if not one.answers]
    if not answerable:
        raise QuestionsError("no question has an answer in this knowledge: there is nothing to measure")
    findings = {one.question: find(one.question) for one in questions}
    by_question = _rank({one.question: one for one in answerable}, findings)
    rightly = sum(not findings[one.question].answered for one in unanswerable)
    wrongly = sum(not findings[one.question].answered for one in answerable)
    means = {name: sum(scores.values()) / len(answerable) for name, scores in by_question.items()}
    return Quality(
        **means,
        refusal_recall=rightly / len(unanswerable) if unanswerable else 1.0,
        refusal_precision=rightly / (rightly + wrongly) if rightly + wrongly else 1.0,
        answerable=len(answerable),
        unanswerable=len(unanswerable),
        by_question=by_question["ndcg"],
    )


def _rank(questions: Mapping[str, Question], findings: Mapping[str, Finding]) -> dict[str, dict[str, float]]:
    """Each measure by question."""
    import ir_measures
    from ir_measures import RR, R, nDCG

    measures = {nDCG @ DOCUMENTS: "ndcg", R @ 5: "recall", RR @ DOCUMENTS: "rr"}
    labels = [
        ir_measures.Qrel(text, uri, grade)
        for text, one in questions.items()
        for uri, grade in one.answers.items()
    ]
    run = [
        ir_measures.ScoredDoc(text, uri, -float(place))
        for text in questions
        for place, uri in enumerate(list(dict.fromkeys(findings[text].ranking))[:DOCUMENTS])
    ]
    found: dict[str, dict[str, float]] = {name: dict.fromkeys(questions, 0.0) for name in measures.values()}
    for metric in ir_measures.iter_calc(list(measures), labels, run) if run else ():
        found[measures[metric.measure]][metric.query_id] = float(metric.value)
    return found


def compare(old: Quality, new: Quality) -> Comparison:
    """Paired over the questions that both were asked; exact for few, by 9,999 drawn sign flips for many."""
    import numpy
    from scipy import stats

    both = sorted(old.by_question.keys() & new.by_question.keys())
    differences = numpy.array([new.by_question[text] - old.by_question[text] for text in both])
    if not differences.any():
        return Comparison(0.0, 1.0)
    test = stats.permutation_test(
        (differences,),
        numpy.mean,
        permutation_type="samples",
        n_resamples=9999,
        rng=numpy.random.default_rng(0),
    )
    return Comparison(float(differences.mean()), float(test.pvalue))


def is_worse(old: Quality, new: Quality, threshold: float) -> str:
    """Why the new one must not take the old one's place; empty where it may.

    A figure that falls by more than `threshold` stops it, whether or not that could be luck: going back is dear,
    looking again is not. Refusals count by the mean of recall and precision, as one threshold trades them.
    """

    def score(quality: Quality) -> dict[str, float]:
        return {
            "nDCG@10": quality.ndcg,
            "recall@5": quality.recall,
            "refusals": (quality.refusal_recall + quality.refusal_precision) / 2,
        }

    before, after = score(old), score(new)
    fallen = [
        f"{name} fell from {before[name]:.3f} to {after[name]:.3f}"
        for name in before
        if before[name] - after[name] > threshold
    ]
    if not fallen:
        return ""
    return (
        f"{'; '.join(fallen)} (at most {threshold:.3f} may be lost; p {compare(old, new).p:.3f} for nDCG@10)"
    )


def write_quality(quality: Quality) -> dict[str, Any]:
    """As JSON, for the ledger; `read_quality` reads it."""
    return asdict(quality) | {"by_question": dict(quality.by_question)}


def read_quality(values: Mapping[str, Any]) -> Quality:
    """What `write_quality` wrote."""
    return Quality(**values)
