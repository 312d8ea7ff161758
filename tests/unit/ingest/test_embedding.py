"""No text is embedded twice with one model, whoever asks, whenever it fails."""

import math
import threading
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from deployments.ingest.embedding import (
    TEXTS_A_REQUEST,
    WrongVectorsError,
    embed_texts,
    join_text,
    pack_vector,
    unpack_vector,
)
from shared.ledger.models import TextVector
from shared.llm.fake import FakeLlm
from shared.llm.port import LlmError, LlmRefusedError
from tests.ingest import CountingLlm, embed_text
from tests.postgres_server import wait_for

SECONDS = 20.0


def count_kept(sessions: sessionmaker[Session]) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(TextVector)) or 0


def test_what_is_embedded_of_a_passage_is_its_title_headings_and_text() -> None:
    assert join_text("Title", "A › B", "text") == "Title\nA › B\ntext"
    assert join_text("Title", "", "text") == "Title\ntext" and join_text("", "", "text") == "text"


def test_vectors_come_in_the_order_of_their_texts_and_are_kept(sessions: sessionmaker[Session]) -> None:
    llm, texts = CountingLlm(), [f"text {n}" * (n % 7 + 1) for n in range(150)]
    first = embed_texts(sessions, llm, "m", [*texts, texts[0]])
    made = [embed_text(one) for one in (*texts, texts[0])]
    for vector, wanted in zip(first.vectors, made, strict=True):
        assert max(abs(a - b) for a, b in zip(vector, wanted, strict=True)) < 1e-6
    assert first.asked == 150 and [len(request) for request in llm.requests] == [64, 64, 22]
    again = embed_texts(sessions, llm, "m", list(reversed(texts)))
    assert again.asked == 0 and len(llm.requests) == 3
    assert [list(v) for v in again.vectors] == [list(v) for v in reversed(first.vectors[:150])]
    assert embed_texts(sessions, llm, "another", texts[:2]).asked == 2
    assert embed_texts(sessions, llm, "m", []).vectors == []


def test_a_request_holds_texts_of_one_length(sessions: sessionmaker[Session]) -> None:
    llm = CountingLlm()
    embed_texts(sessions, llm, "m", [f"{n} " + "x" * (500 * (n % 2)) for n in range(2 * TEXTS_A_REQUEST)])
    assert [max(map(len, request)) > 500 for request in llm.requests] == [False, True]


def test_a_vector_is_kept_as_float32() -> None:
    vector = [0.1, -2.5, math.pi]
    assert len(pack_vector(vector)) == 12
    assert list(unpack_vector(pack_vector(vector))) == pytest.approx(vector, rel=1e-6)
    assert pack_vector([1.0]) == b"\x00\x00\x80\x3f"


class Answers(FakeLlm):
    """Answers with what it was made with, one after the other; an exception is raised."""

    def __init__(self, *answers: object) -> None:
        super().__init__(dimensions=8)
        self.answers_left = list(answers)

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        if not self.answers_left:
            return super().embed(model, texts)
        answer = self.answers_left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (LlmError("answered 429"), "429"),
        (LlmError("answered 500"), "500"),
        (LlmRefusedError("refused the key"), "key"),
        ([[1.0] * 8], "1 vectors for 2 texts"),
        ([[1.0] * 8] * 3, "3 vectors for 2 texts"),
        ([[1.0] * 8, [1.0] * 7], "7 dimensions where this model gave 8"),
        ([[1.0] * 3, [1.0] * 3], "3 dimensions where this model gave 8"),
        ([[1.0] * 8, [0.0] * 8], "zeros"),
        ([[1.0] * 8, [math.nan] * 8], "no number"),
        ([[1.0] * 8, []], "dimensions"),
    ],
)
def test_a_wrong_answer_is_an_error_and_nothing_of_it_is_kept(
    sessions: sessionmaker[Session], answer: object, error: str
) -> None:
    llm = Answers([[1.0] * 8], answer)
    embed_texts(sessions, llm, "m", ["before"])
    with pytest.raises(LlmError, match=error) as raised:
        embed_texts(sessions, llm, "m", ["one", "two"])
    assert isinstance(raised.value, WrongVectorsError) is not isinstance(answer, Exception)
    assert count_kept(sessions) == 1
    assert embed_texts(sessions, llm, "m", ["one", "two", "before"]).asked == 2


class SlowLlm(CountingLlm):
    """Answers when it is told to, or fails then."""

    def __init__(self) -> None:
        super().__init__()
        self.asking, self.go_on, self.fails = threading.Event(), threading.Event(), False

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        self.asking.set()
        assert self.go_on.wait(SECONDS)
        if self.fails:
            raise LlmError("answered 500")
        return super().embed(model, texts)


def count_waiting(sessions: sessionmaker[Session]) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with sessions() as session:
        return session.scalar(text(query)) or 0


@pytest.mark.parametrize("fails", [False, True])
def test_two_that_want_the_same_text_at_once_wait_for_each_other(
    sessions: sessionmaker[Session], fails: bool
) -> None:
    """The second takes over where the first fails, as where it dies: its transaction ends either way."""
    first, second, done = SlowLlm(), CountingLlm(), []
    first.fails = fails

    def embed(llm: CountingLlm, texts: list[str]) -> None:
        try:
            done.append(embed_texts(sessions, llm, "m", texts).asked)
        except LlmError:
            done.append(-1)

    threads = [
        threading.Thread(target=embed, args=(first, ["a", "b", "c"])),
        threading.Thread(target=embed, args=(second, ["d", "c", "b"])),
    ]
    threads[0].start()
    assert first.asking.wait(SECONDS)
    threads[1].start()
    wait_for(lambda: count_waiting(sessions) == 1, SECONDS)
    assert second.requests == []
    first.go_on.set()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert sorted(done) == ([-1, 3] if fails else [1, 3])
    assert (first.asked + second.asked).most_common(1)[0][1] == 1


def test_many_at_once_embed_each_text_once(sessions: sessionmaker[Session]) -> None:
    llm = CountingLlm()
    texts = [f"text {n}" for n in range(200)]
    errors: list[BaseException] = []

    def embed(start: int) -> None:
        try:
            mine = texts[start:] + texts[:start]
            embed_texts(sessions, llm, "m", mine)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=embed, args=(30 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert errors == [] and llm.asked.total() == 200 == count_kept(sessions)
