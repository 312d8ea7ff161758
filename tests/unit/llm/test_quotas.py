"""What a key has spent: a minute that moves, a day of UTC that ends, and what runs at once."""

import pytest

from deployments.llm.keyring import Key
from deployments.llm.quotas import Excess, Quotas

DAY = 86_400


class Clock:
    """Seconds since 1970, as they are set."""

    def __init__(self) -> None:
        self.now = 100.0 * DAY + 10

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def key(**limits):
    return Key(name="anna", sha256="0" * 64, created=0, **limits)


def test_requests_leave_the_minute_one_by_one(clock):
    quotas, anna = Quotas(clock=clock), key(requests_per_minute=2)
    assert quotas.admit(anna) is None
    clock.now += 20
    assert quotas.admit(anna) is None
    clock.now += 10
    assert quotas.admit(anna) == Excess("requests per minute", 2, 30)
    assert quotas.describe(anna)["x-ratelimit-reset-requests"] == "30s"
    clock.now += 30
    assert quotas.admit(anna) is None
    assert quotas.admit(anna) == Excess("requests per minute", 2, 20)


def test_a_refused_request_is_not_counted(clock):
    quotas, anna = Quotas(clock=clock), key(requests_per_minute=1, concurrency=1)
    assert quotas.admit(anna) is None
    for _ in range(5):
        assert quotas.admit(anna).limit == "requests per minute"
    clock.now += 60
    assert quotas.admit(anna) == Excess("requests at once", 1, 1)
    quotas.release(anna)
    assert quotas.admit(anna) is None


def test_what_runs_at_once_ends_with_the_request(clock):
    quotas, anna = Quotas(clock=clock), key(concurrency=2)
    assert [quotas.admit(anna) for _ in range(3)] == [None, None, Excess("requests at once", 2, 1)]
    quotas.spend(anna, 5)
    quotas.release(anna)
    assert quotas.admit(anna) is None
    assert quotas.describe(anna) == {}


def test_the_day_of_utc_ends(clock):
    quotas, anna = Quotas(clock=clock), key(tokens_per_day=10)
    assert quotas.admit(anna) is None
    quotas.spend(anna, 12)
    quotas.release(anna)
    assert quotas.admit(anna) == Excess("tokens per day", 10, DAY - 10, lasting=True)
    clock.now += DAY - 10
    assert quotas.admit(anna) is None
    assert quotas.describe(anna)["x-ratelimit-remaining-tokens"] == "10"


def test_a_key_without_limits_is_counted_and_let_in(clock):
    quotas = Quotas(clock=clock)
    assert [quotas.admit(key()) for _ in range(1000)] == [None] * 1000


def test_tokens_of_today_are_read_back_and_those_of_yesterday_are_not(clock, tmp_path):
    path = tmp_path / "new" / "usage.json"
    quotas, anna = Quotas(path, clock), key(tokens_per_day=10)
    quotas.admit(anna)
    quotas.spend(anna, 7)
    quotas.save()
    assert Quotas(path, clock).describe(anna)["x-ratelimit-remaining-tokens"] == "3"
    clock.now += DAY
    assert Quotas(path, clock).describe(anna)["x-ratelimit-remaining-tokens"] == "10"


def test_nothing_is_written_where_nothing_was_spent(clock, tmp_path):
    path = tmp_path / "usage.json"
    quotas = Quotas(path, clock)
    quotas.admit(key())
    quotas.spend(key(), 3)
    quotas.save()
    path.unlink()
    quotas.save()
    assert not path.exists()


def test_a_damaged_file_counts_from_zero_and_is_told(clock, tmp_path, caplog):
    path = tmp_path / "usage.json"
    path.write_text('{"day": ')
    assert Quotas(path, clock).admit(key(tokens_per_day=1)) is None
    assert "counted from zero" in caplog.text


def test_a_disk_that_takes_nothing_stops_nobody(clock, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    quotas = Quotas(tmp_path / "file" / "usage.json", clock)
    quotas.admit(key())
    quotas.spend(key(), 3)
    quotas.save()
    assert "could not be written" in caplog.text
    assert quotas.describe(key(tokens_per_day=10))["x-ratelimit-remaining-tokens"] == "7"
