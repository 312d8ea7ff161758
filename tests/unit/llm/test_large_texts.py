"""One large text at a time is read by llama.cpp's tokenizer; small ones pass."""

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

from deployments.llm.engines.llama_cpp.large_texts import LARGE, LargeTexts
from deployments.llm.engines.ports import QueueFullError


def test_a_second_large_text_is_refused_after_a_while_and_a_small_one_passes():
    texts = LargeTexts(seconds=0.01)
    with texts.admit(LARGE + 1):
        with texts.admit(LARGE):
            pass
        with pytest.raises(QueueFullError, match="try again"), texts.admit(LARGE + 1):
            raise AssertionError("admitted")
    with texts.admit(LARGE + 1):
        pass


def test_a_second_large_text_waits_for_the_first_and_a_third_is_refused_at_once():
    """Those that wait hold threads that others need: they are few."""
    texts = LargeTexts(seconds=60, most_waiting=1)
    admitted = threading.Event()

    def read():
        with texts.admit(LARGE + 1):
            admitted.set()

    with ThreadPoolExecutor(2) as pool:
        with texts.admit(LARGE + 1):
            tries = [pool.submit(read) for _ in range(2)]
            refused = next(as_completed(tries, timeout=30))
            assert isinstance(refused.exception(), QueueFullError) and not admitted.is_set()
        (other,) = [one for one in tries if one is not refused]
        other.result(timeout=30)
    assert admitted.is_set()


def test_a_large_text_that_fails_makes_room():
    texts = LargeTexts(seconds=0.01)
    with pytest.raises(KeyError), texts.admit(LARGE + 1):
        raise KeyError
    with texts.admit(LARGE + 1):
        pass
