"""One contract for every sink: run on the fake, and on the HTTP client against a server that stands for Marquez."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deployments.lineage.sinks.fake import FakeSink
from deployments.lineage.sinks.marquez import MarquezSink
from deployments.lineage.sinks.port import DeliveryFailedError, EventRefusedError, LineageSink, SinkAwayError
from tests.marquez_stand_in import serve_marquez

Made = tuple[LineageSink, FakeSink]


@pytest.fixture(params=["fake", "http"])
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    fake = FakeSink()
    if request.param == "fake":
        yield fake, fake
        return
    with serve_marquez(fake) as url:
        sink = MarquezSink(url, connections=2, timeout=5)
        yield sink, fake
        sink.close()


def test_an_event_arrives_as_it_was_sent(made: Made, make_event: Callable[..., dict[str, Any]]) -> None:
    sink, fake = made
    event = make_event("START", 1, 0)
    sink.deliver(event)
    sink.deliver(event)
    assert fake.events == [event, event] and sink.is_well()


def test_a_malformed_event_is_refused_with_the_reason(made: Made) -> None:
    with pytest.raises(EventRefusedError, match=r"422.*must not be null"):
        made[0].deliver({"run": {}})


def test_a_failure_on_one_event_is_told_from_a_missing_sink(
    made: Made, make_event: Callable[..., dict[str, Any]]
) -> None:
    sink, fake = made
    fake.failures = [DeliveryFailedError("HTTP 500: race")]
    with pytest.raises(DeliveryFailedError, match="500"):
        sink.deliver(make_event("START", 1, 0))
    fake.away = True
    with pytest.raises(SinkAwayError):
        sink.deliver(make_event("START", 1, 0))
    assert not sink.is_well() and fake.events == []


def test_nobody_at_the_address(make_event: Callable[..., dict[str, Any]]) -> None:
    with serve_marquez(FakeSink()) as url:
        pass
    sink = MarquezSink(url, connections=1, timeout=2)
    with pytest.raises(SinkAwayError):
        sink.deliver(make_event("START", 1, 0))
    assert not sink.is_well()
    sink.close()
