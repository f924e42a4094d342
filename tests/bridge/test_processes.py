"""`gateway serve --no-bridge` and two of `gateway bridge`, as processes: they share the endpoints, hand them over."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.bridge.receiver import Receiver
from tests.support.command import Command, Serve
from tests.support.wait import wait_until

# Each starts several processes, which a busy machine makes slow.
pytestmark = pytest.mark.timeout(300)
ENDPOINTS = 24
OPEN = {"GATEWAY_WEBHOOK_ALLOW_HTTP": "true", "GATEWAY_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8"}


class Bridge(Command):
    """One that listens for probes."""

    def __init__(self, redis_url: str, folder: Path, name: str) -> None:
        super().__init__("bridge", "--redis-url", redis_url, "--bridge-port", "0", cwd=folder, env=OPEN, name=name)
        self.wait_for_err("delivering")
        match = re.search(r"answering on (http://\S+?);", self.err)
        assert match, self.err
        self.url = match[1]

    async def gauge(self, name: str) -> float:
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{self.url}/metrics")).text
        return float(text.split(f"\n{name} ")[1].split("\n")[0])

    async def shards(self) -> float:
        return await self.gauge("gateway_webhook_shards_held")


async def test_bridges_share_the_work_and_hand_it_over(redis_url: str, receiver: Receiver, tmp_path: Path) -> None:
    with Serve("--no-bridge", "--redis-url", redis_url, cwd=tmp_path, env=OPEN) as serve:
        async with httpx.AsyncClient(base_url=serve.url, timeout=20) as http:
            for number in range(ENDPOINTS):
                made = await http.post("/api/webhooks", json={"url": f"{receiver.url}/{number}"})
                assert made.status_code == 201, made.text
            with Bridge(redis_url, tmp_path, "one") as one, Bridge(redis_url, tmp_path, "two") as two:

                async def shared() -> bool:
                    return await one.shards() == await two.shards() == 32

                await wait_until(shared, "each has its half", 60)
                for path in ("healthz", "readyz"):
                    assert (await http.get(f"{one.url}/{path}")).status_code == 200
                assert (await http.get(f"{one.url}/api/webhooks")).status_code == 404
                first = await _publish(http, 20)
                await wait_until(lambda: _complete(receiver, first), "all endpoints have all", 60)
                driven = [await it.gauge('gateway_webhook_endpoints{breaker="closed"}') for it in (one, two)]
                # The way out for events with a URL is one more.
                assert sum(driven) == ENDPOINTS + 1
                assert min(driven) > 0
                assert one.stop() == 0
                second = await _publish(http, 20)
                await wait_until(lambda: _complete(receiver, first + second), "the other has taken over", 60)
                assert await two.shards() == 64
                counts = Counter((it.path, it.webhook_id) for it in receiver.requests)
                # Who leaves politely leaves nothing in doubt.
                assert set(counts.values()) == {1}


async def _publish(http: httpx.AsyncClient, count: int) -> list[str]:
    events: list[dict[str, Any]] = [{"type": "sms.sent", "data": {"n": n}} for n in range(count)]
    answer = await http.post("/api/events", json=events)
    assert answer.status_code == 201, answer.text
    ids: list[str] = answer.json()["ids"]
    return ids


def _complete(receiver: Receiver, ids: list[str]) -> bool:
    if len(receiver.requests) < ENDPOINTS * len(ids):
        return False
    return {(it.path, it.event_id) for it in receiver.requests} >= {
        (f"/hook/{number}", event_id) for number in range(ENDPOINTS) for event_id in ids
    }
