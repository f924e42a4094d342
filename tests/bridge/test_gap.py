"""What was gone before it could be delivered is told; what can be kept waits."""

from __future__ import annotations

import time
from typing import Any

from gateway.bridge.api import Api
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.job import Job
from gateway.events.filter import stream_globs
from gateway.events.jsontext import loads
from gateway.events.position import format_id, parse_id
from gateway.stream.log import Limits
from gateway.stream.retention import Retention
from tests.bridge.receiver import Held, Receiver
from tests.bridge.rig import Rig
from tests.support.inprocess import serve_here
from tests.support.wait import wait_until


async def test_a_trim_ahead_of_an_endpoint_is_told_and_delivery_goes_on(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, works=False) as maker:
        endpoint = await maker.endpoint(receiver.url, driven=False)
        ids = await maker.publish(20)
        position = await maker.bridge.ledger.position(endpoint.id)
        assert position is not None
        await maker.client.execute_command("XTRIM", "events", "MAXLEN", "=", 5)
    async with Rig(redis_url) as rig:
        await wait_until(lambda: len(receiver.requests) == 5, "what is left is delivered")
        assert sorted(receiver.ids) == ids[-5:]

        async def told() -> list[bytes]:
            entries, _ = await rig.store.page("gateway:ops", parse_id("0-0"), 10)
            return [entry.data for entry in entries if entry.type == "stream.gap"]  # type: ignore[union-attr]

        (data,) = await wait_until(told, "the gap is told")
        gap = loads(data)
        assert (gap["webhook"], gap["requested"], gap["reason"]) == (endpoint.id, format_id(position), "trimmed")
        assert parse_id(ids[14]) <= parse_id(gap["resumed_at"]) < parse_id(ids[15])


async def test_an_unbroken_stream_tells_of_no_gap(rig: Rig, receiver: Receiver) -> None:
    await rig.endpoint(receiver.url)
    await rig.publish(20)
    await wait_until(lambda: len(receiver.requests) == 20, "delivered")
    await rig.client.execute_command("XTRIM", "events", "MAXLEN", "=", 1)
    await rig.publish()
    await wait_until(lambda: len(receiver.requests) == 21, "delivered")
    assert (await rig.store.info("gateway:ops")).length == 0


def retention(rig: Rig, most: int, hard: int, age: float = 0.0) -> Retention:
    return Retention(
        rig.store,
        stream_globs(["events"]),  # type: ignore[arg-type]
        max_events=most,
        max_age=age,
        interval=1,
        now=lambda: time.time() + 3600,
        trimmed=lambda count: None,
        awaited=rig.bridge.slowest,
        max_kept=hard,
    )


async def test_retention_waits_for_endpoints_up_to_the_hard_cap(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, works=False) as rig:
        await rig.endpoint(receiver.url, driven=False)
        await rig.publish(3000)

        await retention(rig, 100, 10_000).trim_all()
        assert (await rig.store.info("events")).length == 3000
        await retention(rig, 100, 1000).trim_all()
        assert (await rig.store.info("events")).length == 1000


async def test_retention_trims_what_is_delivered(rig: Rig, receiver: Receiver) -> None:
    endpoint = await rig.endpoint(receiver.url)
    ids = await rig.publish(1000)
    await wait_until(lambda: len(receiver.requests) == 1000, "delivered")

    async def at_the_end() -> bool:
        return await rig.bridge.ledger.position(endpoint.id) == parse_id(ids[-1])

    await wait_until(at_the_end, "committed")
    assert await rig.bridge.slowest("events") == parse_id(ids[-1])
    await rig.store.trim_below("events", max_events=100, min_id=parse_id(ids[-1]))
    assert 100 <= (await rig.store.info("events")).length < 300


async def test_retention_by_age_waits_too(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, works=False) as rig:
        await rig.publish(10)
        endpoint = await rig.endpoint(receiver.url, driven=False)
        ids = await rig.publish(10)
        await retention(rig, 0, 10_000, age=60).trim_all()
        left, _ = await rig.store.page("events", parse_id("0-0"), 100)
        assert [format_id(entry.id) for entry in left] == ids
        await rig.bridge.registry.delete(endpoint.id)
        await retention(rig, 0, 10_000, age=60).trim_all()
        assert (await rig.store.info("events")).length == 0


async def test_retention_waits_for_the_slowest_and_for_replays(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, works=False) as rig:
        assert await rig.bridge.slowest("events") is None
        slow = await rig.endpoint(receiver.url, driven=False)
        ids = [parse_id(it) for it in await rig.publish(10)]
        quick = await rig.endpoint(receiver.url, driven=False)
        assert await rig.bridge.slowest("events") == await rig.bridge.ledger.position(slow.id)
        assert await rig.bridge.slowest("gateway:ops") is None
        await rig.bridge.registry.delete(slow.id)
        assert await rig.bridge.slowest("events") == ids[-1]
        running = Job("rpl_1", ids[3], ids[5], "running", 1)
        await rig.bridge.ledger.put_replay(quick.id, running.id, running.dump())
        assert await rig.bridge.slowest("events") == ids[3]
        await Api(rig.bridge).replays.cancel(quick, running.id)
        assert await rig.bridge.slowest("events") == ids[-1]


async def test_the_gateways_own_retention_waits(redis_url: str) -> None:
    async with Rig(redis_url, works=False) as rig:
        await rig.endpoint("https://x.example/", driven=False)
    options: dict[str, Any] = {"bridge": False, "retention_events": 10, "retention_hard_events": 200}
    async with serve_here(redis_url, **options) as here:
        entries = [("events", {"type": b"a.b", "data": b"1"})] * 150
        await here.gateway.store.append(entries)
        await here.gateway.retention.trim_all()
        assert (await here.gateway.store.info("events")).length == 150
        await here.gateway.store.append(entries)
        await here.gateway.retention.trim_all()
        assert (await here.gateway.store.info("events")).length == 200


async def test_the_position_of_one_that_gets_nothing_moves_too(rig: Rig, receiver: Receiver) -> None:
    endpoint = await rig.endpoint(receiver.url, events=["voice.*"])
    ids = await rig.publish(10)

    async def at_the_end() -> bool:
        return await rig.bridge.ledger.position(endpoint.id) == parse_id(ids[-1])

    await wait_until(at_the_end, "nothing waits for it")
    assert receiver.requests == []


async def gaps(rig: Rig, endpoint: Endpoint) -> list[dict[str, Any]]:
    entries, _ = await rig.store.page("gateway:ops", parse_id("0-0"), 100)
    found = [loads(entry.data) for entry in entries if entry.type == "stream.gap"]  # type: ignore[union-attr]
    return [gap for gap in found if gap["webhook"] == endpoint.id]


async def test_a_trim_ahead_of_one_that_is_behind_is_told_once(redis_url: str, receiver: Receiver) -> None:
    held = Held(receiver)
    async with Rig(redis_url, limits=Limits(window_events=100)) as rig:
        endpoint = await rig.endpoint(receiver.url, max_in_flight=1)
        # More than is read ahead of it.
        ids = await rig.publish(8000)
        pump = rig.worker.pumps[endpoint.id]
        await wait_until(lambda: pump.feed.position == parse_id(ids[-1]) and receiver.requests, "it is far behind")
        await rig.client.execute_command("XTRIM", "events", "MAXLEN", "=", 50)
        held.go_on.set()
        await wait_until(lambda: receiver.requests[-1].event_id == ids[-1], "what is left is delivered")
        (gap,) = await wait_until(lambda: gaps(rig, endpoint), "the gap is told")
        came = set(receiver.ids)
        lost = [it for it in ids if it not in came]
        assert gap["reason"] == "trimmed"
        assert lost == [it for it in ids if parse_id(gap["requested"]) < parse_id(it) <= parse_id(gap["resumed_at"])]
        assert came >= set(ids[-50:])
        assert len(receiver.ids) == len(ids) - len(lost)
        await wait_until(lambda: pump.idle, "all is written")
    async with Rig(redis_url) as rig:
        (last,) = await rig.publish()
        await wait_until(lambda: receiver.ids[-1] == last, "it goes on")
        assert len(await gaps(rig, endpoint)) == 1
        assert len(receiver.ids) == len(ids) - len(lost) + 1


async def test_a_stream_that_begins_anew_under_what_is_in_flight(redis_url: str, receiver: Receiver) -> None:
    held = Held(receiver)
    async with Rig(redis_url) as rig:
        endpoint = await rig.endpoint(receiver.url, max_in_flight=2)
        old = await rig.publish(4)
        await wait_until(lambda: len(receiver.requests) == 2, "two are in flight")
        await rig.client.delete("events")
        await rig.client.execute_command("XADD", "events", "5-0", "type", "sms.sent", "data", "1")
        (gap,) = await wait_until(lambda: gaps(rig, endpoint), "it is told")
        assert gap["reason"] == "recreated"
        position = await rig.bridge.ledger.position(endpoint.id)
        assert position is not None
        assert position < parse_id("5-0")
        held.go_on.set()
        await wait_until(lambda: "5-0" in receiver.ids, "what is new is delivered")

        async def at_the_end() -> bool:
            return await rig.bridge.ledger.position(endpoint.id) == parse_id("5-0")

        await wait_until(at_the_end, "the position is one of the new life")
        assert set(receiver.ids) <= {*old, "5-0"}
    seen = len(receiver.requests)
    async with Rig(redis_url) as rig:
        await rig.client.execute_command("XADD", "events", "6-0", "type", "sms.sent", "data", "1")
        await wait_until(lambda: "6-0" in receiver.ids, "it goes on")
        assert len(receiver.requests) == seen + 1
        assert len(await gaps(rig, endpoint)) == 1


async def test_a_gateway_that_starts_trims_nothing_that_is_waited_for(redis_url: str) -> None:
    """It trims at once, and has much to read before it can do anything else."""
    options: dict[str, Any] = {"bridge": False, "retention_events": 10, "retention_hard_events": 100_000}
    async with Rig(redis_url, works=False) as rig:
        await rig.endpoint("https://x.example/", driven=False)
        await rig.publish(30_000)
        async with serve_here(redis_url, **options) as here:
            await wait_until(lambda: rig.client.exists("gateway:retention"), "it has begun to trim")
            await here.gateway.retention.trim_all()
            assert (await rig.store.info("events")).length == 30_000
