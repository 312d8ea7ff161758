"""The labelled questions fit the bundled knowledge."""

from collections import Counter
from pathlib import Path

from deployments.ingest.quality import load_questions, select_askable
from shared.contracts import document_uri

CONTENT = Path(__file__).parents[3] / "content"
QUESTIONS = load_questions(CONTENT / "questions.jsonl")
DOCUMENTS = {
    document_uri(path.parent.name, path.name)
    for path in (CONTENT / "knowledge").rglob("*")
    if path.suffix in (".md", ".txt")
}


def test_each_is_about_documents_that_are_there() -> None:
    assert select_askable(QUESTIONS, DOCUMENTS) == QUESTIONS
    assert {grade for one in QUESTIONS for grade in one.answers.values()} == {1, 2}
    assert all(2 in one.answers.values() for one in QUESTIONS if one.answers)


def test_every_document_is_asked_about() -> None:
    assert {uri for one in QUESTIONS for uri in one.answers} == DOCUMENTS


def test_there_are_enough_of_each_kind() -> None:
    kinds = Counter(one.kind for one in QUESTIONS)
    assert sum(bool(one.answers) for one in QUESTIONS) >= 80
    assert kinds["near"] >= 20 and kinds["far"] >= 5
    assert min(kinds[kind] for kind in ("paraphrase", "keywords", "short", "typo")) >= 5
    assert {one.kind for one in QUESTIONS if not one.answers} == {"near", "far"}
