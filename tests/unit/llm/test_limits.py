"""How many answers run at once, and how long each may become; by counting alone."""

import pytest

from deployments.llm.engines.limits import count_admitted, limit_answer
from deployments.llm.engines.ports import ContextTooLongError


def admit(waiting, running=None, *, rows=16, tokens=1000):
    """Lengths wait, of the model "a" where no other is named."""
    queue = [item if isinstance(item, tuple) else ("a", item) for item in waiting]
    return count_admitted(queue, running or {}, max_rows=rows, max_tokens=tokens)


@pytest.mark.parametrize(
    ("waiting", "running", "admitted"),
    [
        ([], {}, 0),
        ([250] * 5, {}, 4),
        ([250] * 4, {}, 4),
        ([251] * 4, {}, 3),
        # All rows of a model are as wide as its longest, whichever comes first.
        ([10, 500, 10], {}, 2),
        ([500, 10, 10], {}, 2),
        ([10], {"a": [500]}, 1),
        ([10], {"a": [500, 500]}, 0),
        ([400], {"a": [10, 10]}, 0),
        ([333], {"a": [10, 10]}, 1),
        # Another model has a batch of its own, out of the same budget.
        ([("b", 10), ("b", 10)], {"a": [490, 490]}, 2),
        ([("b", 10), ("b", 10), ("b", 10)], {"a": [490, 490]}, 2),
        ([("b", 21)], {"a": [490, 490]}, 0),
        ([("b", 500), ("a", 500), ("a", 1)], {}, 2),
    ],
)
def test_answers_are_let_in_while_their_padded_tokens_fit(waiting, running, admitted):
    assert admit(waiting, running) == admitted


def test_one_answer_alone_is_let_in_however_long():
    assert admit([5000, 1]) == 1
    assert admit([5000], {"a": [], "b": []}) == 1
    assert admit([5000], {"b": [1]}) == 0


def test_nobody_overtakes():
    assert admit([900, 1, 1], {"a": [200]}) == 0


def test_rows_are_limited_too():
    assert admit([1] * 9, {"a": [1], "b": [1, 1]}, rows=5) == 2
    assert admit([1] * 9, {"a": [1]}, rows=1) == 0
    assert admit([1] * 9, rows=1) == 1


def test_an_answer_may_fill_the_context_and_no_more():
    assert limit_answer(100, 60, 40, 10) == 40
    assert limit_answer(100, 60, None, 10) == 10
    assert limit_answer(100, 60, None, 1000) == 40
    assert limit_answer(100, 99, None, 10) == 1
    for prompt, asked in ((60, 41), (100, None), (100, 1)):
        with pytest.raises(ContextTooLongError) as caught:
            limit_answer(100, prompt, asked, 10)
        assert (caught.value.limit, caught.value.prompt_tokens, caught.value.max_tokens) == (
            100,
            prompt,
            asked or 0,
        )


def test_a_prompt_that_is_too_long_is_told_in_the_words_that_clients_look_for():
    with pytest.raises(
        ContextTooLongError, match=r"^This model's maximum context length is 8 tokens, but .* 9"
    ):
        limit_answer(8, 9, None, 4)
