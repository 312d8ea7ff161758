"""How requests are cut into batches, and whose batch is next."""

import threading

import pytest

from deployments.llm.engines.onnx.batching import Turns, plan_batches
from deployments.llm.engines.ports import QueueFullError


@pytest.mark.parametrize(
    ("lengths", "limit", "batches"),
    [
        ([], 100, []),
        ([5, 3, 9], 100, [[1, 0, 2]]),
        ([5, 3, 9], 10, [[1, 0], [2]]),
        ([50, 60], 10, [[0], [1]]),
        ([5, 5, 5], 1, [[0], [1], [2]]),
        ([4, 4, 4, 4, 4], 8, [[0, 1], [2, 3], [4]]),
        ([0, 0], 1, [[0, 1]]),
    ],
)
def test_texts_of_like_length_are_computed_together(lengths, limit, batches):
    assert plan_batches(lengths, limit) == batches


def test_no_batch_has_more_than_its_tokens_with_padding():
    lengths = [1 + (number * 37) % 250 for number in range(1000)]
    batches = plan_batches(lengths, 512)
    assert sorted(index for batch in batches for index in batch) == list(range(1000))
    assert all(len(batch) * max(lengths[index] for index in batch) <= 512 for batch in batches)


def test_turns_are_taken_in_the_order_of_asking():
    turns, order, waiting = Turns(), [], []

    def take(name):
        with turns.take():
            order.append(name)

    with turns.take():
        for name in range(5):
            thread = threading.Thread(target=take, args=(name,))
            thread.start()
            waiting.append(thread)
            while len(turns._waiting) <= name:
                pass
    for thread in waiting:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_who_gets_no_turn_is_told_and_takes_nobody_elses():
    turns = Turns(patience=0.01)
    with turns.take(), pytest.raises(QueueFullError), turns.take():
        raise AssertionError("two at once")
    with turns.take():
        pass


def test_a_turn_that_fails_is_given_back():
    turns = Turns(patience=0.01)
    with pytest.raises(RuntimeError), turns.take():
        raise RuntimeError
    with turns.take():
        pass
