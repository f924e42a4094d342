"""What was gone before it could be delivered is told; what can be kept waits."""

from __future__ import annotations

import time

from gateway.events.filter import stream_globs
from gateway.events.jsontext import loads
from gateway.events.position import format_id, parse_id
from gateway.stream.retention import Retention
from tests.bridge.receiver import Receiver
from tests.bridge.rig import Rig
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


async def test_retention_waits_for_endpoints_up_to_the_hard_cap(redis_url: str, receiver: Receiver) -> None:
    async with Rig(redis_url, works=False) as rig:
        await rig.endpoint(receiver.url, driven=False)
        await rig.publish(3000)

        def retention(most: int, hard: int) -> Retention:
            return Retention(
                rig.store,
                stream_globs(["events"]),  # type: ignore[arg-type]
                max_events=most,
                max_age=0,
                interval=1,
                now=time.time,
                trimmed=lambda count: None,
                awaited=rig.bridge.slowest,
                max_kept=hard,
            )

        await retention(100, 10_000).trim_all()
        assert (await rig.store.info("events")).length == 3000
        await retention(100, 1000).trim_all()
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
