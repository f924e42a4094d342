"""The gauges of the bridge, taken from its pumps."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.bridge.metrics import BridgeMetrics
from gateway.bridge.pump import Pump
from gateway.events.position import milliseconds


def survey(metrics: BridgeMetrics, pumps: Sequence[Pump], shards: int, now: float) -> None:
    """Set every gauge; `now` is Unix time in seconds."""
    broken = sum(pump.breaker.open for pump in pumps)
    metrics.shards.set(shards)
    metrics.endpoints.labels("open").set(broken)
    metrics.endpoints.labels("closed").set(len(pumps) - broken)
    metrics.retries.set(sum(pump.retries.count for pump in pumps))
    metrics.in_flight.set(sum(pump.in_flight for pump in pumps))
    oldest = lag = 0.0
    for pump in pumps:
        position, tail = pump.main.low_water(), pump.feed.position
        if position < tail:
            oldest = max(oldest, now - milliseconds(position) / 1000)
            lag = max(lag, (milliseconds(tail) - milliseconds(position)) / 1000)
    metrics.oldest.set(oldest)
    metrics.lag.set(lag)
