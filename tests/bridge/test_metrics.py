"""`/metrics` of a real gateway says what its bridge does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gateway.bridge.metrics import MOST, BridgeMetrics
from tests.bridge.receiver import Received, Receiver, status
from tests.support.command import Command, Serve
from tests.support.inprocess import serve_here
from tests.support.wait import wait_until

Samples = dict[tuple[str, str], float]


async def scrape(http: httpx.AsyncClient) -> Samples:
    """(name, value of its one label or "") -> value."""
    families = text_string_to_metric_families((await http.get("/metrics")).text)
    return {(s.name, next(iter(s.labels.values()), "")): s.value for family in families for s in family.samples}


@pytest.fixture
async def http(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = {"webhook_allow_http": True, "webhook_allow_cidrs": ["127.0.0.0/8"]}
    async with serve_here(redis_url, **settings) as here, httpx.AsyncClient(base_url=here.url, timeout=20) as client:
        yield client


async def create(http: httpx.AsyncClient, url: str, **fields: object) -> str:
    answer = await http.post("/api/webhooks", json={"url": url, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def publish(http: httpx.AsyncClient, type_: str, count: int) -> None:
    answer = await http.post("/api/events", json=[{"type": type_, "data": n} for n in range(count)])
    assert answer.status_code == 201, answer.text


async def hang(received: Received, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_each_metric_has_the_right_value(http: httpx.AsyncClient, receiver: Receiver) -> None:
    others = Receiver(answer=lambda received: status(500) if b'"bad.' in received.body else hang)
    await others.start()
    await create(http, receiver.url, events=["good.*"])
    bad = await create(http, others.url, events=["bad.*"], retry=[0, 600, 600], max_in_flight=1)
    slow = await create(http, others.url, events=["slow.*"], max_in_flight=1, timeout=60)
    begun = time.time()
    await publish(http, "good.one", 5)
    await publish(http, "bad.one", 14)
    await publish(http, "slow.one", 3)

    async def there() -> Samples | None:
        found = await scrape(http)
        return found if found.get(("gateway_webhook_endpoints", "open")) == 1 else None

    await wait_until(there, "the breaker is open", 30)
    found = await scrape(http)
    failures = found["gateway_webhook_attempts_total", "5xx"]
    # Ten in a row open the breaker. One at a time, so there is none under way then.
    assert failures == found["gateway_webhook_deliveries_total", "retrying"] == 10
    assert found["gateway_webhook_retries", ""] == 10
    assert found["gateway_webhook_attempts_total", "2xx"] == 5
    assert found["gateway_webhook_deliveries_total", "delivered"] == 5
    assert found["gateway_webhook_attempt_seconds_count", ""] == 15
    assert 0 < found["gateway_webhook_attempt_seconds_sum", ""] < 15
    # The one that hangs has begun too.
    assert found["gateway_webhook_added_latency_seconds_count", ""] == 16
    assert found["gateway_webhook_in_flight", ""] == 1
    # Three endpoints, and the way out for events with URLs of their own.
    assert found["gateway_webhook_endpoints", "closed"] == 3
    assert found["gateway_webhook_shards_held", ""] == 64
    assert found["gateway_webhook_commits_total", "written"] > 0
    ages = {label: value for (name, label), value in found.items() if name == "gateway_webhook_endpoint_oldest_seconds"}
    lags = {label: value for (name, label), value in found.items() if name == "gateway_webhook_endpoint_lag_seconds"}
    assert set(ages) == set(lags) == {bad, slow}
    assert 0 < max(ages.values()) == found["gateway_webhook_oldest_undelivered_seconds", ""] <= time.time() - begun + 1
    assert 0 <= max(lags.values()) == found["gateway_webhook_position_lag_seconds", ""] <= max(ages.values())
    for path in (bad, slow):
        await http.delete(f"/api/webhooks/{path}")

    async def forgotten() -> bool:
        return not any(name.startswith("gateway_webhook_endpoint_") for name, label in await scrape(http) if label)

    await wait_until(forgotten, "those that are gone are shown no longer", 30)
    await others.stop()


def test_few_endpoints_are_shown_one_by_one() -> None:
    registry = CollectorRegistry()
    metrics = BridgeMetrics(registry)

    def shown() -> set[str]:
        (family,) = [it for it in registry.collect() if it.name == "gateway_webhook_endpoint_lag_seconds"]
        return {sample.labels["endpoint"] for sample in family.samples}

    metrics.lag_by_endpoint.set({f"whk_{n}": n for n in range(1000)})
    assert shown() == {f"whk_{n}" for n in range(1000 - MOST, 1000)}
    metrics.lag_by_endpoint.set({"whk_1": 1.0})
    assert shown() == {"whk_1"}


@pytest.mark.timeout(300)
async def test_workers_are_one_bridge_to_prometheus(redis_url: str, tmp_path: Path) -> None:
    with Serve("--redis-url", redis_url, "--workers", "2", cwd=tmp_path) as serve:
        assert isinstance(serve, Command)
        async with httpx.AsyncClient(base_url=serve.url) as http:

            async def whole() -> bool:
                return (await scrape(http)).get(("gateway_webhook_shards_held", "")) == 64

            await wait_until(whole, "the shards of both together", 60)
