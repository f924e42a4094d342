"""Many observations at once are the same as one by one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from gateway.bridge.bulk import BulkHistogram

AMOUNTS = [0.0, 0.001, 0.0011, 0.5, 1.0, 1.0, 2.0, 1e9]
BUCKETS = (0.001, 0.5, 1)


def shown(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_the_same_numbers() -> None:
    single, bulk = CollectorRegistry(), CollectorRegistry()
    one = Histogram("h", "h", buckets=BUCKETS, registry=single)
    many = BulkHistogram("h", "h", buckets=BUCKETS, registry=bulk)
    for amount in AMOUNTS:
        one.observe(amount)
    many.observe_all([])
    many.observe_all(AMOUNTS[:3])
    many.observe_all(AMOUNTS[3:])
    assert shown(bulk) == shown(single)
