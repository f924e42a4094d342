"""The gauges of the bridge, taken from its pumps."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.bridge.metrics import BridgeMetrics
from gateway.bridge.pump import Pump
from gateway.events.position import milliseconds


def survey(metrics: BridgeMetrics, pumps: Sequence[Pump], shards: int, now: float) -> None:
    """Set every gauge; `now` is Unix time in seconds."""
    metrics.flush()
    broken = sum(pump.breaker.open for pump in pumps)
    metrics.shards.set(shards)
    metrics.endpoints.labels("open").set(broken)
    metrics.endpoints.labels("closed").set(len(pumps) - broken)
    metrics.retries.set(sum(pump.retries.count for pump in pumps))
    metrics.in_flight.set(sum(pump.in_flight for pump in pumps))
    ages: dict[str, float] = {}
    lags: dict[str, float] = {}
    for pump in pumps:
        position, tail = pump.main.low_water(), pump.feed.position
        if position < tail:
            ages[pump.endpoint.id] = max(0.0, now - milliseconds(position) / 1000)
            lags[pump.endpoint.id] = (milliseconds(tail) - milliseconds(position)) / 1000
    metrics.oldest.set(max(ages.values(), default=0.0))
    metrics.lag.set(max(lags.values(), default=0.0))
    metrics.oldest_by_endpoint.set(ages)
    metrics.lag_by_endpoint.set(lags)
