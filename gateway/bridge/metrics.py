"""What the bridge counts. Label sets are closed: results, error classes, never an endpoint's id or URL."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.bridge.attempt import Attempt

_DURATION: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30)
_LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)


class BridgeMetrics:
    """The metrics of the bridge of one process, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter("gateway_webhook_attempts", "Attempts by result", ["result"], registry=registry)
        self._deliveries = Counter(
            "gateway_webhook_deliveries", "Deliveries settled, by status", ["status"], registry=registry
        )
        self._duration = Histogram(
            "gateway_webhook_attempt_seconds", "Duration of attempts", buckets=_DURATION, registry=registry
        )
        self._latency = Histogram(
            "gateway_webhook_added_latency_seconds",
            "From the event's id to the start of its first attempt",
            buckets=_LATENCY,
            registry=registry,
        )
        self.shards = Gauge("gateway_webhook_shards_held", "Shards held by this process", registry=registry)
        self.endpoints = Gauge(
            "gateway_webhook_endpoints", "Endpoints driven by this process, by breaker", ["breaker"], registry=registry
        )
        self.retries = Gauge("gateway_webhook_retries", "Deliveries waiting for another attempt", registry=registry)
        self.in_flight = Gauge("gateway_webhook_in_flight", "Attempts in flight", registry=registry)
        self.oldest = Gauge(
            "gateway_webhook_oldest_undelivered_seconds",
            "Age of the oldest event that an active endpoint has not got, over all endpoints",
            registry=registry,
        )
        self.lag = Gauge(
            "gateway_webhook_position_lag_seconds",
            "How far the position furthest behind is from its stream's tail, in time",
            registry=registry,
        )
        self.commits = Counter("gateway_webhook_commits", "Commits to Redis, by result", ["result"], registry=registry)
        self._results = {name: self._attempts.labels(name) for name in ("2xx", "3xx", "4xx", "5xx", "other")}
        self._statuses = {name: self._deliveries.labels(name) for name in ("delivered", "failed", "retrying")}

    def attempted(self, status: str, attempt: Attempt) -> None:
        """An attempt ended, and its delivery has `status` now."""
        kind = attempt.error or f"{(attempt.status or 0) // 100}xx"
        counter = self._results.get(kind)
        if counter is None:
            counter = self._results[kind] = self._attempts.labels(kind if attempt.error else "other")
        counter.inc()
        self._statuses[status].inc()
        self._duration.observe(attempt.phases.total)

    def added_latency(self, seconds: float) -> None:
        """A first attempt starts this long after the event's id was made."""
        self._latency.observe(seconds)
