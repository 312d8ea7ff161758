"""What a request to clear says, and how long it stands."""

from datetime import UTC, datetime, timedelta

import pytest

from deployments.ingest.clearing import OutdatedRequestError, Request, check_request, read_request
from shared.contracts import CLEAR_BEFORE, CLEAR_VERSION
from shared.ledger.models import utc_now


@pytest.mark.parametrize("conf", [{CLEAR_BEFORE: "soon"}, {CLEAR_BEFORE: 5}, {CLEAR_BEFORE: "2026-11-24"}])
def test_a_conf_that_cannot_be_read_is_no_request(conf: dict[str, object]) -> None:
    with pytest.raises(OutdatedRequestError, match="conf can't be read"):
        read_request(conf, utc_now())


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_a_request_says_until_when_and_at_which_version() -> None:
    later = NOW + timedelta(minutes=5)
    assert read_request({}, NOW) == Request(NOW + timedelta(hours=1), True, None)
    assert read_request({CLEAR_BEFORE: later.isoformat()}, NOW) == Request(later, True, None)
    assert read_request({CLEAR_VERSION: "3"}, NOW) == Request(NOW + timedelta(hours=1), False, 3)
    conf = {CLEAR_BEFORE: later.isoformat(), CLEAR_VERSION: None}
    assert read_request(conf, NOW) == Request(later, False, None)


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        ({CLEAR_BEFORE: "2026-11-24T12:00:00"}, "a time without its zone"),
        ({CLEAR_BEFORE: "soon"}, "Invalid isoformat string: 'soon'"),
        ({CLEAR_VERSION: "many"}, "invalid literal for int() with base 10: 'many'"),
    ],
)
def test_what_a_conf_that_cannot_be_read_says(conf: dict[str, object], why: str) -> None:
    with pytest.raises(OutdatedRequestError) as error:
        read_request(conf, NOW)
    assert str(error.value) == (
        f"The run's conf can't be read ({why}), and nothing was cleared: leave it empty, or use "
        "`ghostwriter knowledge clear`."
    )


def test_a_request_stands_up_to_its_last_moment_and_at_its_own_version() -> None:
    check_request(Request(NOW), 7, NOW)
    check_request(Request(NOW, any_version=False, version=7), 7, NOW)
    check_request(Request(NOW, any_version=False, version=None), None, NOW)
    with pytest.raises(OutdatedRequestError) as late:
        check_request(Request(NOW), 7, NOW + timedelta(microseconds=1))
    assert str(late.value) == (
        "This clearing was asked for until 2026-11-24T12:00:00+00:00, and nothing was cleared: ask again with "
        "`ghostwriter knowledge clear`."
    )
    with pytest.raises(OutdatedRequestError) as other:
        check_request(Request(NOW, any_version=False, version=6), 7, NOW)
    assert str(other.value) == (
        "This clearing was asked for at version 6 of the knowledge base, which is at 7 now, and nothing was cleared: "
        "look at `ghostwriter knowledge status` and ask again."
    )
