"""Events that bring a URL of their own are delivered, also where nobody has thought of them before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import standardwebhooks

from gateway.access.principal import ANONYMOUS
from gateway.bridge.api import Api
from gateway.bridge.breaker import THRESHOLD
from gateway.bridge.hosts import Hosts
from gateway.bridge.outcome import Outcome
from gateway.bridge.ownurl import system_id
from gateway.events.position import parse_id
from tests.bridge.receiver import OK, Receiver, status
from tests.bridge.rig import Rig
from tests.bridge.test_hostile import hang
from tests.support.inprocess import Here, serve_here
from tests.support.wait import wait_until

OPEN: dict[str, Any] = {"webhook_allow_http": True, "webhook_allow_cidrs": ["127.0.0.0/8"]}
WAY = "/api/webhooks/whk_url_events"


@pytest.fixture
async def here(redis_url: str) -> AsyncIterator[Here]:
    async with serve_here(redis_url, **OPEN) as it:
        yield it


@pytest.fixture
async def http(here: Here) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=here.url, timeout=20) as client:
        yield client


async def publish(http: httpx.AsyncClient, url: str, **fields: Any) -> str:
    answer = await http.post("/api/events", json={"type": "sms.sent", "data": {}, "webhook_url": url, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ids"][0])


async def test_without_any_endpoint_or_secret(http: httpx.AsyncClient, here: Here, receiver: Receiver) -> None:
    first = await publish(http, receiver.url)
    await wait_until(lambda: receiver.ids == [first], "delivered")
    # The secret that it has is the gateway's; a new one is shown at rotation, as for any endpoint.
    made = (await http.post(f"{WAY}/rotate-secret", json={"overlap_seconds": 0})).json()
    assert here.gateway.bridge is not None
    worker = here.gateway.bridge.worker
    assert worker is not None
    pump = worker.pumps["whk_url_events"]
    await wait_until(lambda: pump.endpoint.secrets[0].text == made["secret"], "the bridge knows it")
    second = await here.gateway.store.append(
        [("events", {"type": b"sms.sent", "data": b"{}", "webhook_url": receiver.url.encode()})]
    )
    await wait_until(lambda: receiver.ids == [first, *second], "by XADD too")
    standardwebhooks.Webhook(made["secret"]).verify(receiver.requests[1].body, receiver.requests[1].headers)
    lines = (await http.get(f"{WAY}/logs")).json()["logs"]
    assert first in [line["eventId"] for line in lines]


async def test_it_is_the_gateways_own(http: httpx.AsyncClient, here: Here, receiver: Receiver) -> None:
    await publish(http, receiver.url)
    await wait_until(lambda: receiver.requests, "delivered")
    assert (await http.get("/api/webhooks")).json() == {"webhooks": []}
    assert (await http.delete(WAY)).status_code == 409
    assert (await http.patch(WAY, json={"url": receiver.url})).status_code == 409
    assert (await http.post(f"{WAY}/test")).status_code == 409
    assert (await http.post(f"{WAY}/disable")).json()["active"] is False
    assert here.gateway.bridge is not None
    worker = here.gateway.bridge.worker
    assert worker is not None
    await wait_until(lambda: "whk_url_events" not in worker.pumps, "the bridge knows it")
    late = await publish(http, receiver.url)
    await publish(http, receiver.url)
    assert len(receiver.requests) == 1
    assert (await http.post(f"{WAY}/enable")).json()["active"] is True
    await wait_until(lambda: late in receiver.ids, "what waited is delivered")


async def test_on_a_stream_that_is_served_by_a_glob(http: httpx.AsyncClient, receiver: Receiver) -> None:
    event_id = await publish(http, receiver.url, stream="t.calls")
    await wait_until(lambda: receiver.ids == [event_id], "delivered", 45)


async def test_a_secret_of_the_operator_takes_its_place(redis_url: str, receiver: Receiver) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    async with (
        serve_here(redis_url, webhook_default_secret=secret, **OPEN) as here,
        httpx.AsyncClient(base_url=here.url) as http,
    ):
        await publish(http, receiver.url)
        await wait_until(lambda: receiver.requests, "delivered")
        standardwebhooks.Webhook(secret).verify(receiver.requests[0].body, receiver.requests[0].headers)
        assert (await http.post(f"{WAY}/rotate-secret")).status_code == 409


async def test_what_was_published_while_no_bridge_ran(redis_url: str, receiver: Receiver) -> None:
    async with (
        serve_here(redis_url, bridge=False, **OPEN) as here,
        httpx.AsyncClient(base_url=here.url) as http,
    ):
        event_id = await publish(http, receiver.url)
        # Where no bridge runs, it keeps nobody from trimming.
        assert here.gateway.bridge is not None
        assert await here.gateway.bridge.slowest("events") is None
    async with Rig(redis_url) as rig:
        await wait_until(lambda: receiver.ids == [event_id], "delivered when one comes")

        async def passed() -> bool:
            return await rig.bridge.slowest("events") == parse_id(event_id)

        await wait_until(passed, "and retention waits for it")


async def test_an_endpoint_that_comes_later_takes_nothing_away(redis_url: str, receiver: Receiver) -> None:
    own = await Receiver().start()
    async with (
        serve_here(redis_url, bridge=False, **OPEN) as here,
        httpx.AsyncClient(base_url=here.url) as http,
    ):
        early = await publish(http, own.url)
        made = await http.post("/api/webhooks", json={"url": receiver.url})
        patched = await publish(http, own.url)
        await http.patch(f"/api/webhooks/{made.json()['id']}", json={"overridable": True})
        await http.post("/api/webhooks", json={"url": receiver.url, "overridable": True, "dialect": "trunx"})
        late = await publish(http, own.url)
        async with Rig(redis_url):
            await wait_until(lambda: len(own.requests) >= 5, "all of them", 30)
            found = [(it.event_id, "webhook-signature" in it.headers) for it in own.requests if b'"stream"' in it.body]
            # Both were not yet overridable when the first two came: those are the gateway's own.
            assert sorted(found)[:2] == [(early, True), (patched, True)]
            assert sum(event_id == late for event_id, _ in found) == 1
    await own.stop()


async def test_two_processes_make_the_same_one(redis_url: str) -> None:
    async with Rig(redis_url, works=False) as one, Rig(redis_url, works=False) as two:
        (before,) = await one.publish()
        await one.bridge.own_urls.open(["events"])
        await one.publish()
        # As if it had looked before the first one was there.
        two.bridge.registry.holds = _never  # type: ignore[method-assign]
        await asyncio.gather(*(two.bridge.own_urls.open(["events"]) for _ in range(3)))
        assert await one.bridge.ledger.position(system_id("events")) == parse_id(before)


async def _never(endpoint_id: str) -> bool:
    return False


async def test_a_host_that_hangs_does_not_hold_up_the_others(rig: Rig, receiver: Receiver) -> None:
    dead = [await Receiver(answer=lambda received: hang).start() for _ in range(2)]
    quick = await Receiver().start()
    await rig.endpoint(receiver.url, overridable=True, max_in_flight=16, timeout=60)
    for _ in range(40):
        for url in (dead[0].url, dead[1].url, quick.url):
            await rig.publish(webhook_url=url)
        await rig.publish()
    await wait_until(lambda: len(quick.requests) == len(receiver.requests) == 40, "the others have all of theirs")
    assert max(len(it.requests) for it in dead) <= 16 // 4
    for it in (quick, *dead):
        await it.stop()


async def test_what_was_put_off_arrives_when_the_host_is_back(rig: Rig, receiver: Receiver) -> None:
    own = await Receiver(answer=lambda received: hang).start()
    endpoint = await rig.endpoint(receiver.url, overridable=True, max_in_flight=4, timeout=1, retry=[0, *[1] * 20])
    ids = [(await rig.publish(webhook_url=own.url))[0] for _ in range(12)]
    await rig.publish()
    await wait_until(lambda: receiver.requests, "what follows is delivered")

    async def put_off() -> bool:
        return "pending" in await rig.statuses(endpoint)

    await wait_until(put_off, "some wait in the ledger")
    found, _ = await rig.bridge.ledger.logs(endpoint.id, 100, None, "pending")
    assert all(it.due is not None and it.due >= it.created + 1000 for it in found)
    own.answer = lambda received: OK

    async def delivered() -> bool:
        return await rig.statuses(endpoint) == ["delivered"] * 13

    await wait_until(delivered, "all is delivered", 60)
    assert set(own.ids) == set(ids)
    await own.stop()


@pytest.mark.parametrize("code", [410, 500])
async def test_what_an_events_url_answers_says_nothing_of_the_endpoint(rig: Rig, receiver: Receiver, code: int) -> None:
    own = await Receiver(answer=lambda received: status(code)).start()
    endpoint = await rig.endpoint(receiver.url, overridable=True, retry=[0])
    for count in range(1, THRESHOLD + 2):
        await rig.publish(webhook_url=own.url)

        async def failed(count: int = count) -> bool:
            return await rig.statuses(endpoint) == ["failed"] * count

        await wait_until(failed, "it has failed, for good")
    (plain,) = await rig.publish()
    await wait_until(lambda: receiver.ids == [plain], "its own URL is as it was")
    breaker = rig.worker.pumps[endpoint.id].breaker
    assert (breaker.open, breaker.failing_since) == (False, None)
    stored = await rig.bridge.registry.get(endpoint.id)
    assert stored is not None
    assert stored.config.active
    await own.stop()


async def test_one_that_is_switched_off_takes_no_event_away(rig: Rig, receiver: Receiver) -> None:
    own = await Receiver().start()
    endpoint = await rig.endpoint(receiver.url, overridable=True)
    await Api(rig.bridge).switch(ANONYMOUS, endpoint.id, active=False)
    await wait_until(lambda: endpoint.id not in rig.worker.pumps, "it is driven no more")
    (event_id,) = await rig.publish(webhook_url=own.url)
    await wait_until(lambda: own.ids == [event_id], "delivered all the same")
    await own.stop()


async def test_a_quick_host_gets_a_burst_without_the_ledger(rig: Rig, receiver: Receiver) -> None:
    own = await Receiver().start()
    endpoint = await rig.endpoint(receiver.url, overridable=True)
    ids = await rig.publish(500, webhook_url=own.url)
    await wait_until(lambda: len(own.requests) == 500, "delivered")
    assert sorted(own.ids) == sorted(ids)
    assert rig.worker.pumps[endpoint.id].retries.count == 0
    await own.stop()


def test_failing_hosts_share_little_and_are_given_turns() -> None:
    hosts = Hosts(lambda: 16, lambda: 0.5)
    urls = [f"https://{n}.example/hook" for n in range(20)]
    failed = Outcome("retrying")
    for url in urls:
        assert hosts.free(url)
        for _ in range(3):
            hosts.started(url, 0.0)
            hosts.ended(url, failed, 10.0)
    taken = 0
    for url in urls:
        if hosts.free(url):
            hosts.started(url, 10.0)
            taken += 1
            assert not hosts.free(url)
    assert taken == 4
    assert hosts.free("https://well.example/")
    turns = [hosts.put_off(urls[0], 10.0) for _ in range(100)]
    # One attempt takes ten seconds, so they are ten apart; beyond five minutes in no order.
    assert turns[:3] == [11.0, 21.0, 31.0]
    assert max(turns) <= 300
    hosts.ended(urls[0], Outcome("delivered"), 20.0)
    assert hosts.put_off(urls[0], 20.0) < 12
