"""What is found for a topic, over the fake provider, the fake store and a ledger in SQLite."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from shared import contracts
from shared.contracts import chunk_id
from shared.ledger.models import Base, DocumentVersion, utc_now
from shared.ledger.sessions import create_sessions
from shared.llm.fake import FakeLlm
from shared.llm.port import LlmError
from shared.retrieval import (
    Passage,
    Retrieval,
    cut_window,
    fit_budget,
    merge_alike,
    pick_diverse,
    retrieve,
    spread,
)
from shared.retrieval_settings import RetrievalSettings
from shared.vectors.fake import FakeVectorStore
from shared.vectors.port import Chunk, EmbeddedChunk, ScoredChunk

MODEL = contracts.LOCAL_EMBEDDING_MODEL
HASH = "0" * 64
STRICT = {"rerank": {"least_relevance": 0.5}, "embedding": {MODEL: {"least_relevance": 0.5}}}


def make_passage(uri: str, position: int = 0, score: float = 0.5, text: str = "") -> Passage:
    chunk = Chunk(
        chunk_id(uri, HASH, position), uri, HASH, position, "guides", uri, "", text or f"{uri} {position}"
    )
    return Passage(chunk, score, score, score)


class Knowledge:
    """A store and its ledger; what is committed is current."""

    def __init__(self, folder: Path) -> None:
        self.sessions: sessionmaker[Session] = create_sessions(f"sqlite:///{folder / 'ledger.db'}")
        Base.metadata.create_all(self.sessions.kw["bind"])
        self.store, self.llm = FakeVectorStore(), FakeLlm()

    def add(self, uri: str, *texts: str, content_hash: str = HASH, committed: bool = True) -> None:
        chunks = [
            Chunk(chunk_id(uri, content_hash, n), uri, content_hash, n, "guides", uri, "", text)
            for n, text in enumerate(texts)
        ]
        vectors = self.llm.embed(MODEL, texts)
        self.store.write([EmbeddedChunk(c, v) for c, v in zip(chunks, vectors, strict=True)])
        if committed:
            with self.sessions.begin() as session:
                session.add(
                    DocumentVersion(
                        uri=uri, source="guides", title=uri, content_hash=content_hash, size=1,
                        chunks=len(texts), ingest_run="r",
                    )
                )  # fmt: skip

    def supersede(self, uri: str) -> None:
        with self.sessions.begin() as session:
            for row in session.query(DocumentVersion).filter_by(uri=uri, superseded_at=None):
                row.superseded_at = utc_now()

    def find(self, topic: str, top_k: int = 3, **tables: Any) -> Retrieval:
        return retrieve(
            topic,
            llm=self.llm,
            embedding_model=MODEL,
            store=self.store,
            sessions=self.sessions,
            settings=RetrievalSettings.model_validate(tables),
            top_k=top_k,
        )


@pytest.fixture
def knowledge(tmp_path: Path) -> Knowledge:
    return Knowledge(tmp_path)


def list_uris(retrieval: Retrieval) -> list[str]:
    return [passage.chunk.uri for passage in retrieval.passages]


def test_only_current_versions_are_found(knowledge: Knowledge) -> None:
    knowledge.add("a", "assets wake every dag")
    knowledge.add("b", "assets wake dags too", content_hash="1" * 64, committed=False)
    knowledge.add("c", "assets were called datasets")
    knowledge.supersede("c")
    assert list_uris(knowledge.find("assets wake")) == ["a"]


def test_outdated_hits_do_not_crowd_out_current_ones(knowledge: Knowledge) -> None:
    """More uncommitted chunks rank before the current one than the store is asked for at first."""
    for number in range(8):
        knowledge.add(f"new-{number}", f"assets wake dags {number}", content_hash="1" * 64, committed=False)
    knowledge.add("old", "assets and some more words that rank lower")
    assert list_uris(knowledge.find("assets wake dags", search={"hits": 3}, rerank={"model": ""})) == ["old"]


def test_the_store_is_asked_a_bounded_number_of_times(knowledge: Knowledge) -> None:
    asked: list[int] = []

    class Endless(FakeVectorStore):
        def search(
            self, text: str, vector: Sequence[float], limit: int, *, alpha: float = 0.6
        ) -> list[ScoredChunk]:
            asked.append(limit)
            return [ScoredChunk(make_passage("gone", n).chunk, 1.0, 1.0) for n in range(limit)]

    knowledge.store = Endless()
    found = knowledge.find("assets", search={"hits": 5})
    assert (found.passages, found.answered, found.relevance) == ((), False, 0.0)
    assert asked == [5, 20, 80]


def test_the_reranker_decides_the_order_and_the_relevance(knowledge: Knowledge) -> None:
    knowledge.add("vector", "assets assets assets assets")
    knowledge.add(
        "answer", "how a dag wakes when assets change, and what else there is to say about all that"
    )
    by_vector = {MODEL: {"alpha": 1}}
    first = knowledge.find("how assets wakes", rerank={"model": ""}, embedding=by_vector)
    assert list_uris(first) == ["vector", "answer"] and not first.reranked
    assert all(passage.logit is None for passage in first.passages)
    second = knowledge.find("how assets wakes", embedding=by_vector)
    assert list_uris(second) == ["answer", "vector"] and second.reranked
    assert [passage.logit for passage in second.passages] == [2.5, 0.5]
    assert second.relevance == second.passages[0].score == pytest.approx(0.924, abs=1e-3)


def test_what_was_not_read_again_is_not_ranked_beside_it(knowledge: Knowledge) -> None:
    for number in range(5):
        knowledge.add(f"d{number}", f"assets {'x ' * number}{number}")
    found = knowledge.find("assets", top_k=2, rerank={"candidates": 3})
    assert len(found.passages) == 2
    assert len(knowledge.find("assets", top_k=5, rerank={"candidates": 3}).passages) == 5


def test_off_the_subject_nothing_answers_and_the_nearest_are_told(knowledge: Knowledge) -> None:
    knowledge.add("a", "assets wake every dag")
    for topic, answered in (("assets wake", True), ("chocolate cake", False)):
        found = knowledge.find(topic, **STRICT)
        assert found.answered is answered
        assert list_uris(found) == ["a"]


def test_a_provider_without_reranking_is_told_once_and_the_cosine_decides(
    knowledge: Knowledge, caplog: pytest.LogCaptureFixture
) -> None:
    knowledge.add("a", "assets wake every dag")
    tables = {**STRICT, "rerank": {"model": "only-in-this-test"}}
    with caplog.at_level(logging.WARNING):
        found = knowledge.find("assets wake", **tables)
        assert found.answered and not found.reranked
        assert found.relevance == pytest.approx(found.passages[0].cosine) == pytest.approx(0.707, abs=1e-3)
        assert not knowledge.find("chocolate cake", **tables).answered
    told = [record.message for record in caplog.records if "not reranked" in record.message]
    assert len(told) == 1 and "only-in-this-test" in told[0]


def test_a_reranker_that_is_down_is_an_error(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pinned to a training example must not hang on a hiccup."""
    knowledge.add("a", "assets wake every dag")

    def fail(*_: Any) -> list[float]:
        raise LlmError("it can't be reached")

    monkeypatch.setattr(knowledge.llm, "rerank", fail)
    with pytest.raises(LlmError, match="can't be reached"):
        knowledge.find("assets")


def test_a_question_is_embedded_as_its_model_wants_it(knowledge: Knowledge) -> None:
    embedded: list[str] = []

    class Recording(FakeLlm):
        def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
            embedded.extend(texts)
            return super().embed(model, texts)

    knowledge.add("a", "assets wake every dag")
    knowledge.llm = Recording()
    knowledge.find("assets", embedding={MODEL: {"instruction": "Find: "}})
    knowledge.find("assets")
    assert embedded == ["Find: assets", "assets"]


def test_the_same_text_in_two_documents_is_one_passage_that_names_both(knowledge: Knowledge) -> None:
    text = (
        "an asset event wakes every dag that is scheduled on the asset as soon as a task has updated it today"
    )
    knowledge.add("a", text)
    knowledge.add("copy", text.upper())
    knowledge.add("edited", text.replace("today", "now"))
    knowledge.add(
        "other", "assets are a way to schedule a dag when data has changed since its last run yesterday"
    )
    found = knowledge.find("asset event", top_k=4)
    assert len(found.passages) == 2
    merged = next(passage for passage in found.passages if passage.also_in)
    assert {merged.chunk.uri, *merged.also_in} == {"a", "copy", "edited"}


def test_short_texts_that_share_a_few_words_stay_apart() -> None:
    passages = [
        make_passage("a", text="yes, it does"),
        make_passage("b", text="yes, it did"),
        make_passage("c", text="?"),
    ]
    assert merge_alike(passages, 0.8) == passages
    assert merge_alike([], 0.8) == []


def test_repeats_within_a_document_are_one_passage() -> None:
    twice = [
        make_passage("a", 0, text="the very same words"),
        make_passage("a", 1, text="The very same words."),
    ]
    assert merge_alike(twice, 0.8) == [twice[0]]


def test_one_passage_a_document_while_documents_are_enough() -> None:
    passages = [make_passage("a", 0), make_passage("a", 1), make_passage("b", 0)]
    assert [p.chunk.uri for p in pick_diverse(passages, 2)] == ["a", "b"]


def test_further_passages_of_a_document_fill_what_is_left_in_order() -> None:
    passages = [make_passage("a", 0), make_passage("a", 1), make_passage("b", 0), make_passage("a", 2)]
    assert pick_diverse(passages, 3) == passages[:3]
    assert pick_diverse([], 3) == []


def test_a_second_passage_goes_before_a_document_that_does_not_answer() -> None:
    passages = [
        make_passage("a", 0, 0.9), make_passage("a", 1, 0.8), make_passage("b", 0, 0.05), make_passage("b", 1, 0.04)
    ]  # fmt: skip
    assert pick_diverse(passages, 2, 0.1) == passages[:2]
    assert pick_diverse(passages, 3, 0.1) == passages[:3]
    assert pick_diverse(passages, 2, 0.01) == [passages[0], passages[2]]
    assert pick_diverse(passages[2:], 2, 0.1) == passages[2:]


def test_no_document_fills_all_that_is_read_again_while_there_are_others() -> None:
    passages = [*(make_passage("a", n) for n in range(5)), make_passage("b"), make_passage("c")]
    assert spread(passages, 4, 2) == [passages[0], passages[1], passages[5], passages[6]]
    assert spread(passages, 6, 2) == [*passages[:4], passages[5], passages[6]]
    assert spread(passages[:5], 3, 2) == passages[:3]
    assert spread([], 3, 2) == []


def test_a_prompt_carries_what_fits_and_never_nothing() -> None:
    long, short = (
        replace(make_passage("x"), chunk=replace(make_passage("x").chunk, text="y" * n)) for n in (4000, 40)
    )
    assert fit_budget([long, short, short], 100) == [long]
    assert fit_budget([short, long, short], 100) == [short, short]
    assert fit_budget([], 100) == []


@pytest.mark.parametrize("place", ["begin", "middle", "end"])
def test_the_window_of_a_long_text_is_where_the_querys_words_are(place: str) -> None:
    noise = "lorem ipsum dolor sit amet " * 40
    fact = "the triggerer looks after a thousand triggers"
    text = {"begin": f"{fact} {noise}", "middle": f"{noise}{fact} {noise}", "end": f"{noise}{fact}"}[place]
    window = cut_window("how many triggers has a triggerer?", text, 200)
    assert "triggerer looks after" in window and len(window) <= 200
    assert set(window.split()) - {window.split()[-1]} <= set(text.split())
    assert cut_window("anything", "short", 200) == "short"
    assert 0 < len(cut_window("x", "y" * 1000, 200)) <= 200


def test_an_empty_knowledge_base_answers_nothing(knowledge: Knowledge) -> None:
    assert knowledge.find("assets") == Retrieval((), False, 0.0, False)
