# SPDX-License-Identifier: MIT
"""/metrics: the statistics in Prometheus' text format. Names and units follow Prometheus' conventions.

Nothing is counted here: each scrape reads what stats.py holds, through a registry of our own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from relay import __version__
from relay.admin.live import Live, WorkerState
from relay.stats import RESULTS, Histogram, Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "graph_smtp_relay_"
# There from the start: Prometheus sees no increase in a counter that begins with 1.
_ALARMING = ("action_needed", "auth_failed", "auth_limit", "auth_unavailable")


class Metrics:
    """Renders the text of one scrape."""

    def __init__(self, stats: Stats, live: Live) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(stats, live))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Every metric, as of now."""
        octets: bytes = generate_latest(self._registry)
        return octets


class _Collector(Collector):
    def __init__(self, stats: Stats, live: Live) -> None:
        self._stats = stats
        self._live = live

    def collect(self) -> Iterator[Metric]:
        yield from self._messages()
        yield from self._upstream()
        yield from self._gauges()
        if self._live.workers is not None:
            yield from _workers(self._live.workers())

    def _messages(self) -> Iterator[Metric]:
        messages = CounterMetricFamily(
            f"{_PREFIX}messages",
            "Messages answered, by result and by the reply to the data.",
            labels=("result", "reply"),
        )
        seen = dict(self._stats.by_reply)
        for result in RESULTS:  # a counter that is there from the start can be told from one that is missing
            if not any(known == result for known, _ in seen):
                messages.add_metric((result, ""), 0)
        for labels, count in seen.items():
            messages.add_metric(labels, count)
        yield messages
        yield _histogram(f"{_PREFIX}message_size_bytes", "Size of the messages as they came.", {(): self._stats.sizes})
        events = CounterMetricFamily(
            f"{_PREFIX}events",
            "What went wrong, by the event in the log; deferred and rejected too.",
            labels=("event",),
        )
        for event, count in (dict.fromkeys(_ALARMING, 0) | self._stats.events).items():
            events.add_metric((event,), count)
        yield events

    def _upstream(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{_PREFIX}upstream_requests",
            "HTTP requests to Entra ID and Graph, by status; none where no answer came.",
            labels=("service", "status"),
        )
        for name, service in self._stats.services.items():
            for status, count in service.statuses.items():
                requests.add_metric((name, status), count)
        yield requests
        yield CounterMetricFamily(
            f"{_PREFIX}throttled_seconds",
            "How long messages waited, in all: for their turn, for mailbox_rate, and between tries.",
            value=self._stats.services["graph"].waited_s,
        )
        yield _histogram(
            f"{_PREFIX}upstream_request_duration_seconds",
            "Until the head of the answer, by service.",
            {(name,): service.latency for name, service in self._stats.services.items()},
            ("service",),
        )

    def _gauges(self) -> Iterator[Metric]:
        stats, live = self._stats, self._live
        yield _gauge("connections", "SMTP connections now.", live.connections())
        yield _gauge("connections_max", "max_connections of the configuration.", live.max_connections())
        yield _gauge("inflight_bytes", "Message octets being handled now.", live.inflight_bytes())
        yield _gauge("tokens", "Access tokens in memory.", live.tokens())
        age_s = stats.token_age_s()
        if age_s is not None:
            yield _gauge("token_age_seconds", "Since the newest access token was fetched.", age_s)
        left_s = stats.secret_seconds_left()
        if left_s is not None:
            yield _gauge("secret_expiry_seconds", "Until the client secret ends; below zero: it has.", left_s)
        yield _gauge("ready", "What /readyz says: 1 or 0.", int(stats.ready()))
        yield _gauge("start_time_seconds", "When the relay was started, in Unix time.", stats.started.timestamp())
        build = GaugeMetricFamily(f"{_PREFIX}build_info", "Always 1; the version is a label.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build


def _workers(workers: Sequence[WorkerState]) -> Iterator[Metric]:
    up, connections, inflight = (
        GaugeMetricFamily(f"{_PREFIX}worker_{name}", documentation, labels=("worker",))
        for name, documentation in (
            ("up", "1 while this worker runs, 0 between its death and the next start."),
            ("connections", "SMTP connections of this worker."),
            ("inflight_bytes", "Message octets being handled by this worker."),
        )
    )
    messages, restarts = (
        CounterMetricFamily(f"{_PREFIX}worker_{name}", documentation, labels=("worker",))
        for name, documentation in (
            ("messages", "Messages answered by this worker."),
            ("restarts", "How often this worker has died and was replaced."),
        )
    )
    for worker in workers:
        label = (str(worker.number),)
        up.add_metric(label, int(worker.pid > 0))
        connections.add_metric(label, worker.connections)
        inflight.add_metric(label, worker.inflight_bytes)
        messages.add_metric(label, worker.messages)
        restarts.add_metric(label, worker.restarts)
    yield from (up, connections, inflight, messages, restarts)
    yield from _processes(workers)


def _processes(workers: Sequence[WorkerState]) -> Iterator[Metric]:
    """What prometheus_client tells of a process, for each worker; without a prefix it is that of the desk."""
    families: dict[str, Metric] = {}
    for worker in workers:
        for found in ProcessCollector(pid=partial(int, worker.pid), registry=None).collect() if worker.pid else ():
            name = f"{_PREFIX}worker_{found.name}"
            family = families.setdefault(name, Metric(name, f"{found.documentation} By worker.", found.type))
            for sample in found.samples:
                family.add_sample(f"{_PREFIX}worker_{sample.name}", {"worker": str(worker.number)}, sample.value)
    yield from families.values()


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}{name}", documentation, value=value)


def _histogram(
    name: str, documentation: str, found: dict[tuple[str, ...], Histogram], labels: tuple[str, ...] = ()
) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for values, histogram in found.items():
        bounds = [*map(_bound, histogram.bounds), "+Inf"]
        counts = accumulate(histogram.counts)
        family.add_metric(values, list(zip(bounds, counts, strict=True)), sum_value=histogram.sum)
    return family


def _bound(value: float) -> str:
    return str(float(value))
