"""What a Prometheus server scrapes: requests, tokens, times, queues and jobs, in a registry of its own per application.

It knows no engine and no route. Label values are bounded: models that are served, keys that were given, routes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deployments.llm.fine_tuning.store import JobStore
from deployments.llm.request_notes import RequestNotes
from deployments.llm.server import Running
from deployments.llm.work import Floors

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Counters that the parts of the server count up, and gauges that are read when asked for."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Counter(
            "llm_requests", "Requests answered", ["method", "route", "status", "key"], registry=registry
        )
        self.request_seconds = Histogram(
            "llm_request_seconds",
            "Time to the end of the answer",
            ["method", "route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokens = Counter(
            "llm_tokens", "Tokens by kind: prompt, cached (of the prompt, not computed anew), completion",
            ["model", "kind", "key"], registry=registry,
        )  # fmt: skip
        self.first_token_seconds = Histogram(
            "llm_first_token_seconds",
            "Time from a generation's request to its first text",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.generations = Counter(
            "llm_generations",
            "Generations by how they ended: stop, length, or an error's name",
            ["model", "end"],
            registry=registry,
        )
        self.embedded_texts = Counter(
            "llm_embedded_texts", "Texts embedded", ["model", "key"], registry=registry
        )
        self.reranked_pairs = Counter(
            "llm_reranked_pairs", "Pairs of query and document ranked", ["model", "key"], registry=registry
        )

    def count_request(self, notes: RequestNotes) -> None:
        """Counts a request that has ended."""
        method = notes.method if notes.method in _METHODS else "other"
        self.requests.labels(method, notes.route, str(notes.status), notes.key).inc()
        self.request_seconds.labels(method, notes.route).observe(notes.seconds)

    def watch(
        self,
        name: str,
        text: str,
        label: str,
        read: Callable[[], Mapping[str, float]],
        family: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily,
    ) -> None:
        """Adds a gauge or a counter with a value per label value, read at each scrape."""
        self._registry.register(_Reading(lambda: family(name, text, labels=[label]), read))

    def write(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


def build_metrics(floors: Floors, running: Running, jobs: JobStore) -> Metrics:
    """The counters, and gauges on what there is now."""
    metrics = Metrics()
    kinds = floors.all().items()
    metrics.watch(
        "llm_work",
        "Generations and batches in flight",
        "kind",
        lambda: {k: floor.count for k, floor in kinds},
    )
    metrics.watch(
        "llm_work_waiting",
        "Of those, without a first result",
        "kind",
        lambda: {k: floor.waiting for k, floor in kinds},
    )
    metrics.watch(
        "llm_requests_running", "Requests in flight", "state", lambda: {"running": len(running.requests)}
    )
    connections = running.connections
    metrics.watch("llm_connections", "Connections", "state", lambda: {"open": len(connections.open)})
    metrics.watch(
        "llm_connections_closed",
        "Connections closed before their time: no room for one that asks nothing, late heads, bodies and readers",
        "reason",
        lambda: connections.closed,
        family=CounterMetricFamily,
    )
    metrics.watch("llm_jobs", "Fine-tuning jobs", "status", jobs.count_by_status)
    return metrics


class _Reading(Collector):
    def __init__(
        self,
        build: Callable[[], GaugeMetricFamily | CounterMetricFamily],
        read: Callable[[], Mapping[str, float]],
    ) -> None:
        self._build, self._read = build, read

    def describe(self) -> Iterable[Metric]:
        return [self._build()]

    def collect(self) -> Iterator[Metric]:
        family = self._build()
        for value, number in self._read().items():
            family.add_metric([value], number)
        yield family
