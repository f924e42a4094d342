"""Leaving: streams end one by one with a word, nobody is lost, and a second signal is not argued with."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.support.proxy import Proxy
from tests.support.consumer import Consumer
from tests.support.gateway import GatewayProcess, Lane
from tests.support.redisserver import RedisServer
from tests.support.sseclient import subscribe
from tests.support.wait import wait_until

Start = Callable[..., GatewayProcess]


async def test_each_stream_ends_cleanly_at_its_own_moment(
    valkey: RedisServer, start_gateway: Start, stream: str
) -> None:
    gateway = start_gateway(valkey.url, drain_seconds=1)
    readers = [await subscribe(gateway.url, {"stream": stream}) for _ in range(50)]
    for reader in readers:
        await reader.told("caught-up")
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        assert (await http.get("/readyz")).status_code == 200
        # Kept alive: new connections are refused from the signal on.
        gateway.child.signal(signal.SIGTERM)

        async def draining() -> bool:
            answer = await http.get("/readyz")
            return answer.status_code == 503 and answer.json()["status"] == "draining"

        await wait_until(draining, "/readyz says so")
    delays = set()
    for reader in readers:
        await reader.until_closed()
        assert reader.complete, "the last chunk is missing"
        assert reader.control("closing") == {"reason": "drain", "reconnect": True}
        block = bytes(reader.body).rpartition(b"\n\n")[0].rpartition(b"\n\n")[2]
        retry = re.match(rb"retry: (\d+)\nevent: gateway\.closing\n", block)
        assert retry is not None, block
        delays.add(int(retry[1]))
    assert all(3000 <= delay <= 10_000 for delay in delays)
    assert len(delays) > 10, "clients would come back all at once"
    assert await asyncio.to_thread(gateway.child.wait) == 0


async def test_the_plain_lane_says_goodbye_too(valkey: RedisServer, start_gateway: Start, stream: str) -> None:
    gateway = start_gateway(valkey.url, "plain", max_connection_age=0.2)
    async with await subscribe(gateway.url, {"stream": stream}) as reader:
        await reader.until_closed()
        assert reader.complete
        assert reader.control("closing") == {"reason": "max_age", "reconnect": True}


async def test_connections_have_an_age(valkey: RedisServer, start_gateway: Start, stream: str, lane: Lane) -> None:
    gateway = start_gateway(valkey.url, lane, max_connection_age=0.2)
    consumer = Consumer(gateway.url, {"stream": stream})
    async with valkey.aclient() as db:
        published: list[str] = []
        while consumer.connections < 4:
            connection = await consumer.connect()
            published.append((await db.xadd(stream, {"type": "a", "data": "1"})).decode())
            await connection.until_closed()
            assert connection.control("closing")["reason"] == "max_age"
            consumer.take(connection)
        await consumer.read_to({stream: published[-1]})
    assert [event.id for event in consumer.got] == published


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]], ids=["ctrl-c", "twice"])
async def test_leaving_at_once(
    valkey: RedisServer, start_gateway: Start, stream: str, signals: list[signal.Signals]
) -> None:
    gateway = start_gateway(valkey.url, drain_seconds=3600)
    async with await subscribe(gateway.url, {"stream": stream}) as reader:
        await reader.told("caught-up")
        for number in signals:
            gateway.child.signal(number)
            await wait_until(lambda: not listens(gateway.port), "it no longer listens")
        await reader.until_closed()
        await asyncio.to_thread(gateway.child.wait)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_drain_does_not_wait_for_a_reader_that_takes_nothing(
    valkey: RedisServer, start_gateway: Start, stream: str
) -> None:
    gateway = start_gateway(valkey.url, drain_seconds=0, write_timeout=3600)
    stuck = await subscribe(gateway.url, {"stream": stream}, receive_buffer=4096)
    await stuck.told("caught-up")
    stuck.stall()
    async with valkey.aclient() as db:
        for _ in range(500):
            await db.xadd(stream, {"type": "a", "data": '"' + "x" * 2000 + '"'})
    gateway.child.signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.child.wait) == 0
    stuck.reset()
    await stuck.until_closed()


def moved_since(before: list[int], consumers: list[Consumer]) -> int:
    return sum(now.connections > then for now, then in zip(consumers, before, strict=True))


async def test_rolling_restart_behind_haproxy_loses_and_repeats_nothing(
    valkey: RedisServer, start_gateway: Start, stream: str, tmp_path: Path
) -> None:
    one, two = (start_gateway(valkey.url, drain_seconds=0.5) for _ in range(2))
    proxy = Proxy("haproxy with http-no-delay", tmp_path, one.port, also=two.port)
    base = proxy.url.removesuffix("/api/events")
    await wait_until(proxy.all_up, "the proxy has both")
    done = asyncio.Event()
    published: list[str] = []

    async def publish() -> None:
        async with valkey.aclient() as db:
            while not done.is_set():
                published.append((await db.xadd(stream, {"type": "a", "data": str(len(published))})).decode())
                await asyncio.sleep(0.002)

    async def follow(consumer: Consumer) -> None:
        while not done.is_set():
            try:
                connection = await consumer.connect()
            except (OSError, AssertionError):  # 503 of the proxy while one goes and the other comes
                await asyncio.sleep(0.02)
                continue
            # HAProxy keeps the connection when the response is over, so the end of that is what counts.
            await wait_until(
                lambda connection=connection: connection.complete or connection.closed.is_set() or done.is_set(),
                patience=60,
            )
            consumer.take(connection)
            connection.cut()
            await connection.until_closed()

    consumers = [Consumer(base, {"stream": stream}, since="earliest") for _ in range(20)]
    publishing = asyncio.create_task(publish())
    following = [asyncio.create_task(follow(consumer)) for consumer in consumers]
    try:
        for gateway in (one, two):
            await wait_until(lambda: all(consumer.connections for consumer in consumers), "all are connected")
            before = [consumer.connections for consumer in consumers]
            gateway.child.signal(signal.SIGTERM)
            assert await asyncio.to_thread(gateway.child.wait) == 0
            await wait_until(lambda before=before: moved_since(before, consumers), "those on it went to the other one")
            await asyncio.to_thread(gateway.start)
            await wait_until(proxy.all_up, "the proxy has both again")
    finally:
        done.set()
        await asyncio.gather(publishing, *following)
        proxy.stop()
    for consumer in consumers:
        consumer.url = two.url
        await consumer.read_to({stream: published[-1]})
        assert [event.id for event in consumer.got] == published
        assert consumer.gaps == []
