"""What is written down of deliveries: it outlives a Redis that goes, is full or forgets, and does not grow for ever."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.principal import ANONYMOUS
from gateway.bridge.api import Api
from gateway.bridge.delivery import Delivery
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.lease import shard_of
from gateway.bridge.parts import Pace
from gateway.bridge.retries import Retries
from gateway.errors import Problem
from gateway.events.event import Event
from gateway.events.position import parse_id
from tests.bridge.fakeclock import FakeClock
from tests.bridge.receiver import Held, Received, Receiver, status
from tests.bridge.rig import Rig
from tests.bridge.test_schedules import ops
from tests.support.redisserver import RedisServer
from tests.support.wait import wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    it = RedisServer("valkey", tmp_path / "redis", fsync="always").start()
    yield it
    it.stop()


def fails_once(receiver: Receiver) -> Held:
    """Holds what comes; when it is let go, the first attempt of each event has failed."""
    seen: set[str] = set()

    def answer(received: Received) -> bytes:
        first = received.event_id not in seen
        seen.add(received.event_id)
        return status(500 if first else 200)

    return Held(receiver, answer)


async def all_logs(rig: Rig, endpoint: Endpoint) -> list[Delivery]:
    return (await rig.bridge.ledger.logs(endpoint.id, 1000, None, None))[0]


def unavailable(rig: Rig) -> float:
    """How often a commit was refused."""
    value: float = rig.bridge.metrics.commits.labels("unavailable")._value.get()
    return value


async def everything_settled(rig: Rig, receiver: Receiver, endpoint: Endpoint, ids: list[str]) -> None:
    async def settled() -> bool:
        found = await all_logs(rig, endpoint)
        return len(found) == len(ids) and {it.status for it in found} == {"delivered"}

    await wait_until(settled, "all are delivered at the second attempt")
    assert [it.attempts for it in await all_logs(rig, endpoint)] == [2] * len(ids)
    assert Counter(receiver.ids) == dict.fromkeys(ids, 2)
    assert await rig.bridge.ledger.position(endpoint.id) == parse_id(ids[-1])
    assert await rig.client.zcard(f"gateway:{{{endpoint.id}}}:retries") == 0


async def test_what_failed_while_redis_was_away_is_tried_again(server: RedisServer, receiver: Receiver) -> None:
    held = fails_once(receiver)
    async with Rig(server.url, pace=Pace(lease=60.0, sweep=0.2, patience=1.0)) as rig:
        endpoint = await rig.endpoint(receiver.url, retry=[0, 0.1])
        ids = await rig.publish(5)
        await wait_until(lambda: len(receiver.requests) == 5, "they are in flight")
        server.kill()
        held.go_on.set()
        await wait_until(lambda: unavailable(rig) >= 2, "Redis does not take what came of them")
        # A new one knows no scripts either.
        await asyncio.to_thread(server.start)
        await everything_settled(rig, receiver, endpoint, ids)


async def test_nothing_is_sent_while_the_lease_is_in_doubt(server: RedisServer, receiver: Receiver) -> None:
    held = fails_once(receiver)
    async with Rig(server.url, pace=Pace(lease=2.0, sweep=0.2, patience=1.0)) as rig:
        endpoint = await rig.endpoint(receiver.url, retry=[0, 0.1], max_in_flight=1)
        ids = await rig.publish(5)
        pump, leases = rig.worker.pumps[endpoint.id], rig.worker._leases
        await wait_until(lambda: pump.main.queued == 4 and len(receiver.requests) == 1, "one is in flight")
        server.freeze()
        try:
            await wait_until(lambda: not leases.holds(shard_of(endpoint.id)), "another may have it by now")
            held.go_on.set()
            await wait_until(lambda: not pump.in_flight, "the answer is here")
            assert len(receiver.requests) == 1
        finally:
            server.thaw()
        await everything_settled(rig, receiver, endpoint, ids)


async def test_what_a_full_redis_refuses_is_written_later(server: RedisServer, receiver: Receiver) -> None:
    held = fails_once(receiver)
    async with Rig(server.url, pace=Pace(lease=60.0, sweep=0.2, patience=1.0)) as rig:
        endpoint = await rig.endpoint(receiver.url, retry=[0, 0.1])
        ids = await rig.publish(5)
        await wait_until(lambda: len(receiver.requests) == 5, "they are in flight")
        await rig.client.config_set("maxmemory", 1)
        held.go_on.set()
        await wait_until(lambda: unavailable(rig) >= 2, "Redis does not take what came of them")
        await rig.client.config_set("maxmemory", 0)
        await everything_settled(rig, receiver, endpoint, ids)


async def test_each_retry_has_its_own_time(redis_url: str, receiver: Receiver) -> None:
    clock, count = FakeClock(), 6
    receiver.answer = lambda received: status(500 if len(receiver.requests) <= count else 200)
    async with Rig(redis_url, clock=clock, pace=Pace(lease=600.0)) as rig:
        endpoint = await rig.endpoint(receiver.url, dialect="trunx", max_in_flight=1)
        await rig.publish(count)
        pump = rig.worker.pumps[endpoint.id]
        await wait_until(lambda: len(receiver.requests) == count and pump.idle, "each has failed once")
        times = sorted(it.due / 1000 for it in await all_logs(rig, endpoint) if it.due is not None)
        assert len(set(times)) == count
        for done, due in enumerate(times, count):
            clock.advance(due - clock.now() - 0.002)
            await wait_until(lambda: pump.idle, "nothing is in flight")
            assert len(receiver.requests) == done
            clock.advance(0.003)
            await wait_until(lambda done=done: len(receiver.requests) > done, "it is sent at its time")
            await wait_until(lambda: pump.idle, "it is written down")


async def test_more_retries_at_once_than_are_read_at_once(redis_url: str, receiver: Receiver) -> None:
    clock, seen = FakeClock(), set[str]()

    def answer(received: Received) -> bytes:
        again = received.webhook_id in seen or len(receiver.requests) % 5 == 0
        seen.add(received.webhook_id)
        return status(200 if again else 500)

    receiver.answer = answer
    async with Rig(redis_url, clock=clock) as rig:
        endpoint = await rig.endpoint(receiver.url, retry=[0, 60], max_in_flight=4)
        ids = await rig.publish(200)
        pump = rig.worker.pumps[endpoint.id]

        async def recorded() -> bool:
            return bool(await rig.client.hlen(f"gateway:{{{endpoint.id}}}:records") == 200)

        await wait_until(recorded, "each has had its first attempt")
        failed = pump.retries.count
        assert failed == (await rig.statuses(endpoint)).count("retrying") > 100
        clock.advance(70)

        async def delivered() -> bool:
            return await rig.statuses(endpoint) == ["delivered"] * 200

        await wait_until(delivered, "all have had their second")
        assert pump.retries.count == 0
        assert sum(Counter(receiver.ids).values()) == 200 + failed
        assert set(receiver.ids) == set(ids)


async def test_what_is_written_while_the_retries_are_read_is_not_forgotten(redis_url: str) -> None:
    async with Rig(redis_url, works=False) as rig:
        endpoint = await rig.endpoint("https://x.example/", driven=False)
        ledger, now = rig.bridge.ledger, time.time()
        read = ledger.retries
        event = Event((1 << 64) + 1, "events", "a.b", "a", None, None, b"1")  # type: ignore[arg-type]
        delivery = Delivery("log_1-1", event, "event", 1, status="retrying", due=int(now * 1000))
        retries = Retries(endpoint.id, ledger, 0, 0)

        async def overtaken(endpoint_id: str, limit: int) -> tuple[list[tuple[int, str]], int]:
            found = await read(endpoint_id, limit)
            retries.settled(delivery)
            await ledger.enter(endpoint_id, delivery)
            retries.written(delivery)
            ledger.retries = read  # type: ignore[method-assign]
            return found

        ledger.retries = overtaken  # type: ignore[method-assign]
        await retries.read(now)
        assert retries.wants_read(now + 1)
        await retries.read(now + 1)
        assert retries.count == 1
        taken = retries.take()
        assert taken is not None
        assert taken.id == delivery.id


async def test_what_is_sent_again_has_a_whole_schedule(rig: Rig, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(500)
    endpoint = await rig.endpoint(receiver.url, retry=[0, 0.01, 0.01])
    (event_id,) = await rig.publish()

    async def failed(attempts: int) -> bool:
        return [(it.status, it.attempts) for it in await all_logs(rig, endpoint)] == [("failed", attempts)]

    await wait_until(lambda: failed(3), "given up")
    await Api(rig.bridge).deliveries.resend(ANONYMOUS, endpoint, f"log_{event_id}")
    await wait_until(lambda: failed(6), "given up again, after as many attempts")
    assert (await ops(rig)).count("webhook.exhausted") == 2
    assert len(receiver.requests) == 6


async def test_what_waits_for_its_next_attempt_is_not_sent_again_beside_it(rig: Rig, receiver: Receiver) -> None:
    receiver.answer = lambda received: status(500)
    endpoint = await rig.endpoint(receiver.url, retry=[0, 600])
    (event_id,) = await rig.publish()

    async def waits() -> bool:
        return await rig.statuses(endpoint) == ["retrying"]

    await wait_until(waits, "it waits")
    with pytest.raises(Problem, match="already waiting"):
        await Api(rig.bridge).deliveries.resend(ANONYMOUS, endpoint, f"log_{event_id}")
    assert len(receiver.requests) == 1


async def test_the_log_is_kept_by_count(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, logs_kept=10) as rig:
        endpoint = await rig.endpoint(receiver.url)
        ids = await rig.publish(100)

        async def at_the_end() -> bool:
            return await rig.bridge.ledger.position(endpoint.id) == parse_id(ids[-1])

        await wait_until(at_the_end, "all is delivered")
        assert await rig.client.hlen(f"gateway:{{{endpoint.id}}}:records") == 10
        assert len(await all_logs(rig, endpoint)) == 10


async def test_the_log_is_kept_by_age_also_of_one_that_gets_nothing_more(redis_url: str, receiver: Receiver) -> None:
    clock = FakeClock()
    async with Rig(redis_url, clock=clock) as rig:
        endpoint = await rig.endpoint(receiver.url)
        await rig.publish(10)

        async def recorded() -> int:
            count: int = await rig.client.hlen(f"gateway:{{{endpoint.id}}}:records")
            return count

        async def has(count: int) -> bool:
            return await recorded() == count

        await wait_until(lambda: has(10), "all is recorded")
        clock.advance(6.9 * 86400)
        (last,) = await rig.publish()
        await wait_until(lambda: has(11), "all is recorded")
        assert len(await all_logs(rig, endpoint)) == 11
        clock.advance(0.2 * 86400)
        await wait_until(lambda: has(1), "what is older than a week is gone")
        assert [it.id for it in await all_logs(rig, endpoint)] == [f"log_{last}"]


async def test_replies_that_their_stream_refuses_are_told_of_and_hold_up_nothing(
    redis_url: str, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(redis_url, streams=("events", "t.none")) as rig:
        await rig.client.set("t.none", "no stream")
        await rig.endpoint(receiver.url, reply_stream="t.none")
        await rig.publish(2)
        await wait_until(lambda: len(receiver.requests) == 2, "both are delivered")
        await wait_until(lambda: "outbox.refused stream=t.none" in caplog.text, "and the log says why no reply came")
        await rig.client.delete("t.none")
