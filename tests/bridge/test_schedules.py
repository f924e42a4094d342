"""Schedules of hours in milliseconds: on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.bridge.breaker import THRESHOLD
from gateway.bridge.delivery import Delivery
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.lease import SHARDS
from gateway.bridge.parts import Pace
from gateway.bridge.render import Request, Stationery
from tests.bridge.fakeclock import FakeClock
from tests.bridge.receiver import Receiver, status
from tests.bridge.rig import Rig
from tests.support.wait import wait_until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def rig(redis_url: str, clock: FakeClock) -> AsyncIterator[Rig]:
    """Nobody starts anything but by an alarm: who looks after the leases, and kicks all pumps each time, is gone."""
    async with Rig(redis_url, clock=clock, pace=Pace(lease=600.0, sweep=0.2, patience=1.0)) as it:
        await wait_until(lambda: len(it.worker._epochs) == SHARDS, "it has them all")
        (task,) = (it for it in it.worker._tasks if it.get_coro().__name__ == "_keep_leases")  # type: ignore[union-attr]
        while not task.done():  # a cancellation that meets redis-py can get lost
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
        yield it


async def settled(rig: Rig, endpoint: Endpoint, attempts: int) -> Delivery:
    """Wait until the ledger knows of this many attempts at the only delivery."""

    async def look() -> Delivery | None:
        deliveries, _ = await rig.bridge.ledger.logs(endpoint.id, 1, None, None)
        return deliveries[0] if deliveries and deliveries[0].attempts >= attempts else None

    found = await wait_until(look, f"{attempts} attempts are in the ledger")
    assert found is not None
    return found


async def ops(rig: Rig) -> list[str]:
    entries, _ = await rig.store.page("gateway:ops", 0, 1000)
    return [entry.type or "" for entry in entries]


@pytest.mark.parametrize(
    ("dialect", "waits"),
    [
        ("trunx", [30, 120, 600, 3600]),
        ("telnyx-hmac", [60, 300, 900, 3600]),
        ("tryvox", [1, 4, 16]),
        ("standard", [5, 300, 1800, 7200, 18000, 36000, 36000]),
    ],
)
async def test_each_wait_is_kept_and_the_last_attempt_is_the_last(
    rig: Rig, clock: FakeClock, receiver: Receiver, dialect: str, waits: list[float]
) -> None:
    receiver.answer = lambda received: status(500)
    endpoint = await rig.endpoint(receiver.url, dialect=dialect)
    await rig.publish()
    for done, wait in enumerate(waits, 1):
        delivery = await settled(rig, endpoint, done)
        assert delivery.status == "retrying"
        assert delivery.due is not None
        assert wait - 0.001 <= delivery.due / 1000 - clock.now() <= wait * 1.1
        clock.advance(wait - 0.01)
        assert len(receiver.requests) == done
        clock.advance(wait * 0.1 + 0.02)
        await wait_until(lambda done=done: len(receiver.requests) == done + 1, "the next attempt")
    delivery = await settled(rig, endpoint, len(waits) + 1)
    assert (delivery.status, delivery.due) == ("failed", None)
    await wait_until(lambda: _told(rig, "webhook.exhausted"), "it is told")


async def _told(rig: Rig, *types: str) -> bool:
    told = await ops(rig)
    return all(type_ in told for type_ in types)


async def test_telnyx_tries_three_times_then_the_failover(rig: Rig, clock: FakeClock, receiver: Receiver) -> None:
    backup = await Receiver().start()
    receiver.answer = lambda received: status(500)
    endpoint = await rig.endpoint(receiver.url, dialect="telnyx", failover_url=backup.url)
    await rig.publish()

    async def delivered() -> bool:
        clock.advance(1)
        return len(backup.requests) == 1

    await wait_until(delivered, "the failover has it")
    delivery = await settled(rig, endpoint, 4)
    assert delivery.status == "delivered"
    assert (len(receiver.requests), len(backup.requests)) == (3, 1)
    assert b'"attempt":4,"delivered_to":"%b"' % backup.url.encode() in backup.requests[0].body
    assert b'"attempt":2,"delivered_to":"%b"' % receiver.url.encode() in receiver.requests[1].body
    await backup.stop()


@pytest.mark.parametrize(("code", "charged"), [(429, False), (503, True)])
async def test_retry_after_is_obeyed(rig: Rig, clock: FakeClock, receiver: Receiver, code: int, charged: bool) -> None:
    receiver.answer = lambda received: status(code, "Retry-After: 120\r\n")
    endpoint = await rig.endpoint(receiver.url, retry=[0, 1, 1])
    await rig.publish()
    delivery = await settled(rig, endpoint, 1)
    assert delivery.due is not None
    assert 120 <= delivery.due / 1000 - clock.now() <= 132
    assert delivery.step == charged
    receiver.answer = lambda received: status(200)
    await rig.publish()
    clock.advance(119)
    assert len(receiver.requests) == 1
    clock.advance(14)
    await wait_until(lambda: len(receiver.requests) == 3, "both are delivered then")


async def test_retry_after_is_capped(rig: Rig, clock: FakeClock, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(503, "Retry-After: 999999\r\n")
    endpoint = await rig.endpoint(receiver.url)
    await rig.publish()
    delivery = await settled(rig, endpoint, 1)
    assert delivery.due is not None
    assert delivery.due / 1000 - clock.now() <= 3600.001


async def test_what_comes_in_meanwhile_waits_as_long_as_was_asked_for_and_no_longer(
    rig: Rig, clock: FakeClock, receiver: Receiver
) -> None:
    receiver.answer = lambda received: status(503, "Retry-After: 10\r\n")
    endpoint = await rig.endpoint(receiver.url, retry=[0, 3600])
    await rig.publish()
    await settled(rig, endpoint, 1)
    receiver.answer = lambda received: status(200)
    (second,) = await rig.publish()
    await wait_until(lambda: rig.worker.pumps[endpoint.id].main.queued, "it has come in")
    clock.advance(9.9)
    assert len(receiver.requests) == 1
    clock.advance(0.2)
    await wait_until(lambda: len(receiver.requests) == 2, "it is sent then")
    assert receiver.ids[1] == second


async def test_a_fault_of_ours_costs_the_receiver_nothing(
    rig: Rig, clock: FakeClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> Request:
        raise RuntimeError

    endpoint = await rig.endpoint(receiver.url, retry=[0])
    monkeypatch.setattr(Stationery, "request", broken)
    (event_id,) = await rig.publish()
    for attempts in (1, 2):
        delivery = await settled(rig, endpoint, attempts)
        assert (delivery.status, delivery.step, delivery.error) == ("retrying", 0, "internal")
        if attempts == 2:
            monkeypatch.undo()
        clock.advance(5.1)
    await wait_until(lambda: receiver.ids == [event_id], "delivered when we are well")
    assert rig.worker.pumps[endpoint.id].breaker.failing_since is None


async def test_gone_disables_and_keeps_what_was_not_delivered(rig: Rig, clock: FakeClock, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(410)
    endpoint = await rig.endpoint(receiver.url)
    ids = await rig.publish()
    await wait_until(lambda: endpoint.id not in rig.worker.pumps, "it is driven no more")
    stored = await rig.bridge.registry.get(endpoint.id)
    assert stored is not None
    assert (stored.config.active, stored.disabled_reason) == (False, "gone")
    assert await ops(rig) == ["webhook.disabled"]
    ids += await rig.publish(3)
    receiver.answer = lambda received: status(200)
    clock.advance(1)
    await _enable(rig, endpoint)
    await wait_until(lambda: sorted(receiver.ids[1:]) == ids, "all of them arrive")


async def _enable(rig: Rig, endpoint: Endpoint) -> None:
    from dataclasses import replace

    await rig.bridge.registry.forgive(endpoint.id)
    await rig.bridge.registry.change(
        endpoint.id, lambda it: replace(it, config=it.config.model_copy(update={"active": True}))
    )


async def test_five_days_without_success_disable(rig: Rig, clock: FakeClock, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(500)
    endpoint = await rig.endpoint(receiver.url, retry=[0, 3600, 604800])
    await rig.publish()
    await settled(rig, endpoint, 1)
    clock.advance(4000)
    await settled(rig, endpoint, 2)
    clock.advance(5 * 86400 - 5000)
    await rig.publish()
    await wait_until(lambda: len(receiver.requests) == 3, "still tried")
    assert endpoint.id in rig.worker.pumps
    clock.advance(6000)
    await wait_until(lambda: endpoint.id not in rig.worker.pumps, "disabled")
    assert "webhook.disabled" in await ops(rig)


async def test_five_days_of_too_many_requests_disable(rig: Rig, clock: FakeClock, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(429, "Retry-After: 3600\r\n")
    endpoint = await rig.endpoint(receiver.url)
    await rig.publish()
    await settled(rig, endpoint, 1)
    clock.advance(5 * 86400 + 10)
    await wait_until(lambda: endpoint.id not in rig.worker.pumps, "disabled")
    assert len(receiver.requests) == 2


async def test_breaker_keeps_the_backlog_in_the_stream(rig: Rig, clock: FakeClock, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(500)
    endpoint = await rig.endpoint(receiver.url, max_in_flight=4)
    ids = await rig.publish(600)
    await wait_until(lambda: rig.worker.pumps[endpoint.id].breaker.open, "the breaker is open")
    await wait_until(lambda: rig.worker.pumps[endpoint.id].idle, "all is written")
    pump = rig.worker.pumps[endpoint.id]
    assert THRESHOLD <= len(receiver.requests) <= THRESHOLD + 4
    assert pump.retries.count <= THRESHOLD + 4
    assert pump.main.queued == 0
    seen = len(receiver.requests)
    clock.advance(4.9)
    assert len(receiver.requests) == seen
    clock.advance(0.7)
    await wait_until(lambda: len(receiver.requests) == seen + 1, "one probe")
    await wait_until(lambda: pump.idle, "the probe has ended")
    receiver.answer = lambda received: status(200)

    async def drained() -> bool:
        clock.advance(30)
        return set(receiver.ids) == set(ids) and not pump.retries.count

    await wait_until(drained, "everything arrives")
    told = await ops(rig)
    assert told.count("webhook.failing") == told.count("webhook.recovered") == 1


async def test_a_probe_is_sent_at_its_time_also_when_no_retry_is_due(
    rig: Rig, clock: FakeClock, receiver: Receiver
) -> None:
    receiver.answer = lambda received: status(500)
    endpoint = await rig.endpoint(receiver.url, retry=[0, 36000], max_in_flight=1)
    ids = await rig.publish(20)
    pump = rig.worker.pumps[endpoint.id]
    await wait_until(lambda: pump.breaker.open and pump.idle, "the breaker is open")
    assert await rig.worker._committer.written(pump, 10)
    receiver.answer = lambda received: status(200)
    clock.advance(5.6)
    await wait_until(lambda: receiver.ids == ids, "the backlog is delivered")


async def test_ordered_waits_for_the_one_before(rig: Rig, clock: FakeClock, receiver: Receiver) -> None:
    failures = iter([500, 200, 500, 500])
    receiver.answer = lambda received: status(next(failures, 200))
    await rig.endpoint(receiver.url, ordered=True, retry=[0, 60, 60])
    ids = await rig.publish(30)

    async def drained() -> bool:
        clock.advance(70)
        return bool(receiver.ids) and receiver.ids[-1] == ids[-1]

    await wait_until(drained, "the last has arrived")
    assert [event_id for n, event_id in enumerate(receiver.ids) if n == 0 or receiver.ids[n - 1] != event_id] == ids


async def test_rate_limit(rig: Rig, clock: FakeClock, receiver: Receiver) -> None:
    await rig.endpoint(receiver.url, rate_limit=10)
    await rig.publish(50)
    await wait_until(lambda: len(receiver.requests) >= 1, "begun")
    for _ in range(10):
        before = len(receiver.requests)
        clock.advance(0.1)
        await wait_until(lambda before=before: len(receiver.requests) == before + 1, "one more")


async def test_an_events_own_url(redis_url: str, receiver: Receiver) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    own = await Receiver().start()
    async with Rig(redis_url, default_secret=secret) as rig:
        await wait_until(lambda: len(rig.worker.pumps) == 1, "the way out for events without endpoint")
        (plain,) = await rig.publish(webhook_url=own.url)
        await wait_until(lambda: own.ids == [plain], "delivered without an endpoint")
        await rig.endpoint(receiver.url, events=["sms.*"])
        await rig.endpoint(receiver.url + "/app", events=["sms.*"], overridable=True, dialect="trunx")
        await rig.publish(webhook_url=own.url)
        await wait_until(lambda: len(own.requests) == 2, "in place of the overridable one")
        await wait_until(lambda: len(receiver.requests) == 1, "and beside the other")
        assert "x-trunx-signature" in own.requests[1].headers
        assert [received.path for received in receiver.requests] == ["/hook"]
        await rig.publish()
        await wait_until(lambda: len(receiver.requests) == 3, "without a URL as always")
        assert sorted(received.path for received in receiver.requests) == ["/hook", "/hook", "/hook/app"]
    await own.stop()
