"""Readers that stall lose nothing, hold back nobody, and are cut off when they take nothing at all."""

from __future__ import annotations

import asyncio
import json
import random
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.consumer import Consumer, as_pair
from tests.support.gateway import GatewayProcess
from tests.support.redisserver import RedisServer
from tests.support.sseclient import EventStream, subscribe
from tests.support.wait import wait_until

Start = Callable[..., GatewayProcess]

BIG = '"' + "x" * 2000 + '"'


async def metric(url: str, pattern: str) -> float:
    async with httpx.AsyncClient() as http:
        text = (await http.get(url + "/metrics")).text
    found = re.findall(rf"^{pattern} (\S+)$", text, re.M)
    return sum(map(float, found))


async def flood(valkey: RedisServer, stream: str, count: int, data: str = BIG) -> list[str]:
    """Publish in bursts, so that batches of every size come about."""
    dice = random.Random(7)
    ids: list[str] = []
    async with valkey.aclient() as db:
        while len(ids) < count:
            pipe = db.pipeline(transaction=False)
            for _ in range(min(count - len(ids), dice.choice((1, 3, 20, 150)))):
                pipe.xadd(stream, {"type": "load.tick", "data": data})
            ids += [raw.decode() for raw in await pipe.execute()]
    return ids


def ids_of(stream: EventStream) -> list[str]:
    return [message.last_event_id for message in stream.events]


async def test_stalls_at_random_moments_lose_and_repeat_nothing(
    valkey: RedisServer, start_gateway: Start, stream: str
) -> None:
    gateway = start_gateway(valkey.url)
    dice = random.Random(11)
    readers = [await subscribe(gateway.url, {"stream": stream}, receive_buffer=4096) for _ in range(20)]
    steady = await subscribe(gateway.url, {"stream": stream})
    for reader in [*readers, steady]:
        await reader.told("caught-up")

    async def stumble(reader: EventStream) -> None:
        for _ in range(30):
            reader.stall()
            await asyncio.sleep(dice.random() / 50)
            reader.go_on()
            await asyncio.sleep(dice.random() / 50)

    stumbling = [asyncio.create_task(stumble(reader)) for reader in readers]
    published = await flood(valkey, stream, 3000)
    await asyncio.gather(*stumbling)
    for reader in [*readers, steady]:
        await reader.has(len(published), patience=60)
        assert ids_of(reader) == published
        assert reader.controls("gap") == []
        assert len(reader.controls("caught-up")) == 1
    # Otherwise this test has not tested what it is for.
    assert await metric(gateway.url, "gateway_fallbacks_total") > 5
    # And they came back: the next event reaches them without a replay of their own.
    replayed = await metric(gateway.url, "gateway_events_replayed_total")
    (last,) = await flood(valkey, stream, 1)
    for reader in readers:
        await reader.has(len(published) + 1)
        assert ids_of(reader)[-1] == last
    assert await metric(gateway.url, "gateway_events_replayed_total") == replayed
    for reader in [*readers, steady]:
        reader.cut()
        await reader.until_closed()


async def test_a_reader_that_takes_nothing_is_cut_off_and_resumes(
    valkey: RedisServer, start_gateway: Start, stream: str
) -> None:
    gateway = start_gateway(valkey.url, write_timeout=0.5)
    stalled = Consumer(gateway.url, {"stream": stream})
    connection = await subscribe(gateway.url, {"stream": stream}, receive_buffer=4096)
    await connection.told("caught-up")
    connection.stall()
    other = await subscribe(gateway.url, {"stream": stream})
    published = await flood(valkey, stream, 1000)
    await other.has(len(published))

    async def cut_off() -> bool:
        return await metric(gateway.url, r'gateway_connections_closed_total\{reason="slow"\}') == 1

    await wait_until(cut_off, "the stalled reader is cut off")
    connection.go_on()
    await connection.until_closed()
    assert not connection.complete, "a stream that was cut off must not look finished"
    stalled.take(connection)
    assert 0 < len(stalled.got) < len(published)
    await stalled.read_to({stream: published[-1]})
    assert [event.id for event in stalled.got] == published
    assert stalled.gaps == []
    other.cut()
    await other.until_closed()


async def test_memory_is_bounded_by_readers_not_by_what_they_miss(
    valkey: RedisServer, start_gateway: Start, stream: str
) -> None:
    gateway = start_gateway(valkey.url, window_bytes=1 << 20)
    readers = [await subscribe(gateway.url, {"stream": stream}, receive_buffer=4096) for _ in range(20)]
    for reader in readers:
        await reader.told("caught-up")
        reader.stall()
    await flood(valkey, stream, 500)
    settled = resident(gateway)
    # 20 readers miss 20 MB each, 400 MB together.
    published = await flood(valkey, stream, 10_000)

    async def all_read() -> bool:
        return await metric(gateway.url, "gateway_events_read_total") >= 10_500

    await wait_until(all_read, "the gateway has read all")
    assert resident(gateway) - settled < 40 << 20
    async with valkey.aclient() as db:
        assert as_pair((await db.xrevrange(stream, count=1))[0][0].decode()) == as_pair(published[-1])
    for reader in readers:
        reader.reset()
        await reader.until_closed()


def resident(gateway: GatewayProcess) -> int:
    """Bytes of memory of the gateway."""
    return int(Path(f"/proc/{gateway.child.pid}/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("streams", [1, 3])
async def test_lanes_meet_at_every_place(valkey: RedisServer, start_gateway: Start, streams: int) -> None:
    """Connections opened at random moments of a flood, from random places, all join the live lane exactly."""
    gateway = start_gateway(valkey.url, window_events=300)
    names = [f"t.meet.{streams}.{index}" for index in range(streams)]
    dice = random.Random(3)
    floods = [asyncio.create_task(flood(valkey, name, 1500, '{"n":1}')) for name in names]
    opened: list[tuple[dict[str, str], EventStream]] = []
    while not all(task.done() for task in floods):
        query: dict[str, Any] = {"stream": ",".join(names)}
        query |= dice.choice(({}, {"since": "earliest"}, {"last": "5"}))
        opened.append((query, await subscribe(gateway.url, query)))
        await asyncio.sleep(0.01)
    published = {name: await task for name, task in zip(names, floods, strict=True)}
    for name in names:
        published[name] += await flood(valkey, name, 1, '"the last"')
    for query, reader in opened:
        await wait_until(lambda reader=reader: ends_in(reader) == len(names), "the last event of each stream")
        for name in names:
            got, want = ids_in(reader, name), published[name]
            assert got == want[len(want) - len(got) :], "not the end of the log, once and in order"
            assert "since" not in query or got == want
        reader.cut()
        await reader.until_closed()


def ends_in(reader: EventStream) -> int:
    return sum(event.data.endswith('"data":"the last"}') for event in reader.events)


def ids_in(reader: EventStream, name: str) -> list[str]:
    events = [json.loads(event.data) for event in reader.events]
    return [event["id"] for event in events if event["stream"] == name]
