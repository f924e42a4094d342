"""What the bridge counts. Label sets are bounded: results, error classes, the few endpoints furthest behind."""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.bridge.attempt import Attempt
from gateway.bridge.bulk import BulkHistogram
from gateway.telemetry import METRICS_FOLDER

_DURATION: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
_LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
_KINDS: Final = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}

MOST: Final = 20
"""Endpoints that are shown one by one, at the same time."""


class Worst:
    """A gauge that shows only the highest values of many."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._shown: set[str] = set()

    def set(self, values: Mapping[str, float]) -> None:
        """Show the highest of `values`, by endpoint; those that were shown before no longer."""
        chosen = sorted(values, key=lambda name: -values[name])[:MOST]
        for name in self._shown.difference(chosen):
            if METRICS_FOLDER in os.environ:
                self._gauge.labels(name).set(0)  # what several processes share cannot be removed
            else:
                self._gauge.remove(name)
        for name in chosen:
            self._gauge.labels(name).set(values[name])
        self._shown = set(chosen)


class BridgeMetrics:
    """The metrics of the bridge of one process, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._make_counters(registry)
        self._make_gauges(registry)
        self._ended: list[tuple[str, str, float]] = []
        self._begun: list[float] = []

    def _make_counters(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter("gateway_webhook_attempts", "Attempts by result", ["result"], registry=registry)
        self._deliveries = Counter(
            "gateway_webhook_deliveries", "Deliveries settled, by status", ["status"], registry=registry
        )
        self._duration = BulkHistogram(
            "gateway_webhook_attempt_seconds", "Duration of attempts", buckets=_DURATION, registry=registry
        )
        self._latency = BulkHistogram(
            "gateway_webhook_added_latency_seconds",
            "From the event's id to the start of its first attempt",
            buckets=_LATENCY,
            registry=registry,
        )
        self.commits = Counter("gateway_webhook_commits", "Commits to Redis, by result", ["result"], registry=registry)
        for kind in (*_KINDS.values(), "other"):
            self._attempts.labels(kind)
        for status in ("delivered", "failed", "retrying"):
            self._deliveries.labels(status)

    def _make_gauges(self, registry: CollectorRegistry) -> None:
        total = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        worst = partial(Gauge, registry=registry, multiprocess_mode="livemax")
        self.shards = total("gateway_webhook_shards_held", "Shards held by this process")
        self.endpoints = total("gateway_webhook_endpoints", "Endpoints driven by this process, by breaker", ["breaker"])
        self.retries = total("gateway_webhook_retries", "Deliveries waiting for another attempt")
        self.in_flight = total("gateway_webhook_in_flight", "Attempts in flight")
        self.oldest = worst(
            "gateway_webhook_oldest_undelivered_seconds",
            "Age of the oldest event that was not tried yet at an active endpoint, over all endpoints",
        )
        self.lag = worst(
            "gateway_webhook_position_lag_seconds",
            "How far the position furthest behind is from its stream's tail, in time",
        )
        self.oldest_by_endpoint = Worst(
            worst(
                "gateway_webhook_endpoint_oldest_seconds",
                f"Age of the oldest event not tried yet, of the {MOST} endpoints furthest behind",
                ["endpoint"],
            )
        )
        self.lag_by_endpoint = Worst(
            worst(
                "gateway_webhook_endpoint_lag_seconds",
                f"From the position to the stream's tail, of the {MOST} endpoints furthest behind",
                ["endpoint"],
            )
        )

    def attempted(self, status: str, attempt: Attempt) -> None:
        """An attempt ended, and its delivery has `status` now."""
        kind = attempt.error or _KINDS.get((attempt.status or 0) // 100, "other")
        self._ended.append((kind, status, attempt.phases.total))

    def added_latency(self, seconds: float) -> None:
        """A first attempt starts this long after the event's id was made."""
        self._begun.append(seconds)

    def flush(self) -> None:
        """Show what was noted since the last time."""
        ended, self._ended = self._ended, []
        begun, self._begun = self._begun, []
        for kind, count in Tally(kind for kind, _, _ in ended).items():
            self._attempts.labels(kind).inc(count)
        for status, count in Tally(status for _, status, _ in ended).items():
            self._deliveries.labels(status).inc(count)
        self._duration.observe_all([seconds for _, _, seconds in ended])
        self._latency.observe_all(begun)
