"""The gateway or its Redis dies while people listen and publish: nobody misses or repeats an event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis

from tests.support.consumer import Consumer, as_pair
from tests.support.gateway import GatewayProcess, Lane
from tests.support.redisserver import RedisServer
from tests.support.sseclient import EventStream, subscribe
from tests.support.wait import wait_until

pytestmark = pytest.mark.slow

Start = Callable[..., GatewayProcess]

SUBSCRIBERS = 200


class Publisher:
    """Adds one event after the other until told to stop, also while Redis is away. `acknowledged` are the ids."""

    def __init__(self, server: RedisServer, stream: str) -> None:
        self.acknowledged: list[str] = []
        self._server = server
        self._stream = stream
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    async def reached(self, count: int) -> None:
        await wait_until(lambda: len(self.acknowledged) >= count, f"{count} events are acknowledged")

    async def stop(self) -> None:
        self._stopping = True
        await self._task

    async def _run(self) -> None:
        n = 0
        while not self._stopping:
            with contextlib.suppress(redis.RedisError, OSError):
                async with self._server.aclient() as client:
                    while not self._stopping:
                        n += 1
                        added = await client.xadd(self._stream, {"type": "a.b", "data": str(n)})
                        self.acknowledged.append(added.decode())
                        await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)


async def stored(client: Redis, stream: str) -> list[str]:
    """The ids of all entries."""
    return [entry_id.decode() for entry_id, _ in await client.xrange(stream)]


def ids(stream: EventStream) -> list[str]:
    return [json.loads(message.data)["id"] for message in stream.events]


@pytest.mark.parametrize(
    ("lane", "how"),
    [("direct", signal.SIGKILL), ("plain", signal.SIGKILL), ("direct", signal.SIGTERM)],
    ids=["direct-SIGKILL", "plain-SIGKILL", "direct-SIGTERM"],
)
async def test_gateway_restarts(
    valkey: RedisServer, start_gateway: Start, lane: Lane, stream: str, how: signal.Signals
) -> None:
    gateway = start_gateway(valkey.url, lane, window_events=50, drain_seconds=0.3)
    stopping = False

    async def follow(consumer: Consumer) -> None:
        while not stopping:
            with contextlib.suppress(OSError):
                async with await subscribe(
                    gateway.url, {"stream": stream, "since": "earliest"}, last_event_id=consumer.position
                ) as opened:
                    await wait_until(lambda: opened.closed.is_set() or stopping, "the end of it", 60)
                    if opened.status == 200:
                        consumer.connections += 1
                        consumer.take(opened)
            await asyncio.sleep(0.01)

    consumers = [Consumer(gateway.url, {}) for _ in range(20)]
    publisher = Publisher(valkey, stream)
    following = [asyncio.create_task(follow(consumer)) for consumer in consumers]
    for _ in range(2):
        seen = len(publisher.acknowledged)
        await publisher.reached(seen + 100)
        gateway.child.signal(how)
        await asyncio.to_thread(gateway.child.wait)
        await publisher.reached(len(publisher.acknowledged) + 100)
        await asyncio.to_thread(gateway.start)
    await publisher.reached(len(publisher.acknowledged) + 50)
    await publisher.stop()
    stopping = True
    await asyncio.gather(*following)
    for consumer in consumers:
        await consumer_to_end(consumer, stream, publisher.acknowledged[-1])
        assert [event.id for event in consumer.got] == publisher.acknowledged
        assert consumer.gaps == []
        assert consumer.connections >= 2


async def consumer_to_end(consumer: Consumer, stream: str, end: str) -> None:
    """One last connection for what was published at the very end."""
    last = Consumer(consumer.url, {"stream": stream})
    last.position = consumer.position
    await last.read_to({stream: end})
    consumer.got += last.got
    consumer.gaps += last.gaps


async def subscribe_all(gateway: GatewayProcess, stream: str) -> list[EventStream]:
    opened = [await subscribe(gateway.url, {"stream": stream, "since": "earliest"}) for _ in range(SUBSCRIBERS)]
    for one in opened:
        await one.told("caught-up")
    return opened


async def test_valkey_is_killed_under_200_subscribers(start_gateway: Start, lane: Lane, tmp_path: Path) -> None:
    """Acknowledged events are on disk (``appendfsync always``); the connections live through it."""
    stream = "events"
    server = RedisServer("valkey", tmp_path / "aof", fsync="always").start()
    opened: list[EventStream] = []
    try:
        gateway = start_gateway(server.url, lane, window_events=100)
        opened = await subscribe_all(gateway, stream)
        publisher = Publisher(server, stream)
        for _ in range(2):
            await publisher.reached(len(publisher.acknowledged) + 100)
            server.kill()
            await asyncio.to_thread(server.start)
        await publisher.reached(len(publisher.acknowledged) + 100)
        await publisher.stop()
        async with server.aclient() as client:
            log = await stored(client, stream)
        assert set(publisher.acknowledged) <= set(log)
        for one in opened:
            await wait_until(lambda one=one: ids(one)[-1:] == log[-1:] or one.closed.is_set())
            assert ids(one) == log
            assert not one.closed.is_set()
            assert one.controls("gap") == []
        assert gateway.log_text().count("redis.lost stream=events ") == 2
        assert gateway.log_text().count("redis.regained stream=events ") == 2
    finally:
        for one in opened:
            one.reset()
            await one.until_closed()
        server.stop()


async def test_valkey_comes_back_without_its_last_events(start_gateway: Start, lane: Lane, tmp_path: Path) -> None:
    """The file on disk ends earlier than what people have seen: they hear of it, keep what they have, and go on."""
    stream = "events"
    server = RedisServer("valkey", tmp_path / "aof", fsync="always").start()
    try:
        gateway = start_gateway(server.url, lane)
        with server.client() as client:
            for n in range(1, 11):
                client.xadd(stream, {"type": "a.b", "data": str(n)}, id=f"{n}-0")
            kept = {path: path.read_bytes() for path in (tmp_path / "aof" / "appendonlydir").iterdir()}
            async with await subscribe(gateway.url, {"stream": stream, "since": "earliest"}) as opened:
                await opened.told("caught-up")
                client.xadd(stream, {"type": "a.b", "data": "lost"}, id="11-0")
                client.xadd(stream, {"type": "a.b", "data": "lost"}, id="12-0")
                await opened.has(12)
                server.kill()
                for path, content in kept.items():
                    path.write_bytes(content)
                await asyncio.to_thread(server.start)
                gap = await opened.told("gap")
                assert gap == {"stream": stream, "requested": "12-0", "resumed_at": "10-0", "reason": "recreated"}
                client.xadd(stream, {"type": "a.b", "data": "13"}, id="13-0")
                await opened.has(13)
                assert ids(opened) == [f"{n}-0" for n in range(1, 14)]
    finally:
        server.stop()


async def test_a_client_that_comes_back_while_redis_is_away_is_served_from_memory(
    start_gateway: Start, lane: Lane, tmp_path: Path
) -> None:
    server = RedisServer("valkey", tmp_path / "aof", fsync="always").start()
    try:
        gateway = start_gateway(server.url, lane)
        with server.client() as client:
            for n in range(1, 6):
                client.xadd("events", {"type": "a.b", "data": str(n)}, id=f"{n}-0")
            async with await subscribe(gateway.url, {"since": "earliest"}) as opened:
                await opened.has(5)
            server.kill()
            async with await subscribe(gateway.url, last_event_id="3-0") as again:
                assert again.status == 200, bytes(again.body)
                await again.has(2)
                assert ids(again) == ["4-0", "5-0"]
                await asyncio.to_thread(server.start)
                client.xadd("events", {"type": "a.b", "data": "6"}, id="6-0")
                await again.has(3)
                assert as_pair(ids(again)[-1]) == (6, 0)
                assert again.controls("gap") == []
    finally:
        server.stop()
