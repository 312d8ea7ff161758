"""The order in which events go out."""

from datetime import UTC, datetime, timedelta

from deployments.lineage.ordering import Pending, is_late, order_by_job


def pending(number: int, kind: str, run: str, second: int, job: str = "job") -> Pending:
    time = datetime(2026, 11, 23, 10, tzinfo=UTC) + timedelta(seconds=second)
    return Pending(number, run, ("ns", job), kind, time, {})


def order(*events: Pending, job: str = "job") -> list[int]:
    return [event.id for event in order_by_job(events)[("ns", job)]]


def test_by_time_not_by_arrival() -> None:
    assert order(
        pending(1, "COMPLETE", "a", 1), pending(2, "START", "b", 2), pending(3, "START", "a", 0)
    ) == [3, 1, 2]


def test_at_the_same_time_by_arrival() -> None:
    assert order(pending(2, "START", "b", 0), pending(1, "START", "a", 0)) == [1, 2]


def test_the_end_of_a_run_goes_last_whatever_the_clocks_say() -> None:
    assert order(pending(1, "COMPLETE", "a", 0), pending(2, "START", "a", 5)) == [2, 1]


def test_jobs_apart() -> None:
    assert order(pending(1, "START", "a", 0), pending(2, "START", "b", 0, job="other"), job="other") == [2]


def test_only_what_comes_after_the_end_is_late() -> None:
    assert is_late(pending(1, "START", "a", 0), {"a"})
    assert not is_late(pending(1, "START", "b", 0), {"a"})
    assert not is_late(pending(1, "FAIL", "a", 0), {"a"})
