"""What is built at first use is built once, whoever asks."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.first_use import built_once


class Owner:
    """Builds slowly, and breaks as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.calls, self.failures = 0, failures

    @built_once
    def client(self) -> object:
        """Says what it is."""
        self.calls += 1
        time.sleep(0.02)
        if self.calls <= self.failures:
            raise ConnectionError("not yet")
        return object()


def test_threads_that_ask_at_once_get_the_same_one() -> None:
    owner = Owner()
    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(lambda _: owner.client, range(8)))
    assert len({id(client) for client in [*clients, owner.client]}) == 1
    assert owner.calls == 1


def test_each_instance_has_its_own() -> None:
    first, second = Owner(), Owner()
    assert first.client is not second.client
    assert (first.calls, second.calls) == (1, 1)


def test_an_error_is_not_kept() -> None:
    owner = Owner(failures=1)
    with pytest.raises(ConnectionError):
        _ = owner.client
    assert owner.client is owner.client
    assert owner.calls == 2
