"""Figures of a search against such as were computed by hand, and what a swap is stopped by."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.ingest.quality import (
    Finding,
    Quality,
    Question,
    QuestionsError,
    compare,
    is_worse,
    load_questions,
    measure,
    read_quality,
    select_askable,
    write_quality,
)

GOOD = Quality(0.9, 0.95, 0.9, 0.8, 0.8, 10, 5)


def ask(questions: list[Question], findings: Mapping[str, Finding]) -> Quality:
    return measure(questions, lambda question: findings[question])


def make_question(text: str, **answers: int) -> Question:
    return Question(question=text, answers=answers)


def test_the_figures_are_those_of_the_definitions() -> None:
    questions = [make_question("first", a=2, b=1), make_question("second", c=2), make_question("third", d=2)]
    found = ask(
        questions,
        {
            "first": Finding(["x", "a", "b"], True),
            "second": Finding(["c"], True),
            "third": Finding(["1", "2", "3", "4", "5", "d"], True),  # not among the first five
        },
    )
    first = (2 / math.log2(3) + 1 / math.log2(4)) / (2 / math.log2(2) + 1 / math.log2(3))
    assert found.ndcg == pytest.approx((first + 1 + 1 / math.log2(7)) / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.rr == pytest.approx((1 / 2 + 1 + 1 / 6) / 3)
    assert found.by_question["first"] == pytest.approx(first)


def test_a_document_counts_once_and_the_tenth_is_the_last() -> None:
    questions = [make_question("twice", a=2), make_question("late", b=2), make_question("nothing", c=2)]
    found = ask(
        questions,
        {
            "twice": Finding(["x", "x", "x", "x", "x", "a"], True),
            "late": Finding([str(n) for n in range(10)] + ["b"], True),
            "nothing": Finding([], True),
        },
    )
    assert found.by_question == {"twice": pytest.approx(1 / math.log2(3)), "late": 0.0, "nothing": 0.0}
    assert found.recall == pytest.approx(1 / 3)


def test_refusals_are_counted_both_ways() -> None:
    questions = [
        *(make_question(f"answerable {n}", a=2) for n in range(4)),
        *(make_question(f"not {n}") for n in range(5)),
    ]
    refused = {"answerable 0", "not 0", "not 1", "not 2"}
    findings = {one.question: Finding(["a"], one.question not in refused) for one in questions}
    found = ask(questions, findings)
    assert (found.refusal_recall, found.refusal_precision) == (3 / 5, 3 / 4)
    assert (found.answerable, found.unanswerable) == (4, 5)
    never = ask(questions, {one.question: Finding(["a"], True) for one in questions})
    assert (never.refusal_recall, never.refusal_precision) == (0, 1)


def test_without_an_answer_there_is_nothing_to_measure() -> None:
    with pytest.raises(QuestionsError, match="nothing to measure"):
        ask([make_question("x")], {"x": Finding([], False)})


def test_of_another_knowledge_only_what_fits_is_asked() -> None:
    questions = [make_question("here", a=2), make_question("gone", a=2, b=1), make_question("never")]
    assert select_askable(questions, ["a", "z"]) == [questions[0], questions[2]]


def test_a_difference_by_luck_is_told_from_one_that_is_none() -> None:
    old = replace(GOOD, by_question={str(n): 0.5 for n in range(40)})
    better = replace(GOOD, by_question={str(n): 0.5 + (n % 10 != 0) * 0.1 for n in range(40)})
    mixed = replace(GOOD, by_question={str(n): 0.5 + (-1) ** n * 0.1 for n in range(40)})
    assert compare(old, better).difference == pytest.approx(0.09)
    assert compare(old, better).p < 0.001
    assert compare(better, old).difference == pytest.approx(-0.09)
    assert compare(old, mixed).p > 0.5
    assert compare(old, old).p == 1
    assert compare(old, replace(GOOD, by_question={})).p == 1


def test_few_questions_are_compared_exactly() -> None:
    old, new = (replace(GOOD, by_question={str(n): value for n in range(4)}) for value in (0.4, 0.6))
    assert compare(old, new).p == pytest.approx(2 / 2**4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"ndcg": 0.87}, "nDCG@10 fell from 0.900 to 0.870"),
        ({"recall": 0.5}, "recall@5 fell from 0.950 to 0.500"),
        ({"refusal_recall": 0.7}, "refusals fell from 0.800 to 0.750"),
        ({"refusal_precision": 0.7}, "refusals fell from 0.800 to 0.750"),
        ({"ndcg": 0.89, "recall": 0.94, "refusal_recall": 0.78}, ""),
        ({"ndcg": 1.0, "recall": 1.0}, ""),
        ({"refusal_recall": 0.7, "refusal_precision": 0.9}, ""),  # another threshold, no worse
    ],
)
def test_a_fall_beyond_the_threshold_stops_a_swap(change: dict[str, float], told: str) -> None:
    reason = is_worse(GOOD, replace(GOOD, **change), 0.02)
    assert reason.startswith(told) and bool(reason) == bool(told)


def test_what_is_kept_in_the_ledger_can_be_compared_later() -> None:
    quality = replace(GOOD, by_question={"q": 0.5})
    assert read_quality(json.loads(json.dumps(write_quality(quality)))) == quality


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no JSON", ":2: "),
        ('{"question": "x"}', "answers"),
        ('{"question": "", "answers": {}}', "question"),
        ('{"question": "x", "answers": {}, "grade": 1}', "grade"),
        ('{"question": "fine", "answers": {}}', "asked twice: fine"),
        ("[]", ":2: "),
    ],
)
def test_a_mistake_in_the_questions_is_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f'{{"question": "fine", "answers": {{"a": 2}}}}\n{line}\n\n')
    with pytest.raises(QuestionsError, match=told):
        load_questions(path)
    with pytest.raises(QuestionsError, match="can't be read"):
        load_questions(tmp_path)
