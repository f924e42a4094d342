"""What our connections must do and the client library's own do not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.backend.connection import UNAVAILABLE, Redis, RedisError, connect
from tests.support.redisserver import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    running = RedisServer("valkey", tmp_path / "redis").start()
    yield running
    running.stop()


async def _count(client: Redis) -> None:
    for number in range(40):
        assert await client.echo(str(number)) == str(number).encode()


async def test_a_cancelled_task_ends_wherever_the_cancellation_meets_it(server: RedisServer) -> None:
    client = connect(server.url, connections=4)
    chance = random.Random(1)
    cancelled = 0
    for _ in range(300):
        task = asyncio.create_task(_count(client))
        for _ in range(chance.randrange(1, 200)):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            cancelled += 1
            with pytest.raises(asyncio.CancelledError):
                await task
    assert cancelled > 200
    # The connections that were cut off in the middle give nobody else's answers to those who use them next.
    await asyncio.gather(*(_count(client) for _ in range(4)))
    await client.aclose()


async def test_a_timeout_still_times_out(server: RedisServer) -> None:
    client = connect(server.url, timeout=5)
    await client.ping()
    server.freeze()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.ping()
    finally:
        server.thaw()
    assert await client.ping()
    await client.aclose()


async def test_a_unix_socket_takes_our_options() -> None:
    with pytest.raises(RedisError, match=r"/no/such\.sock"):
        await connect("unix:///no/such.sock").ping()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_sending_over_a_socket_that_was_closed_is_a_redis_that_is_away(server: RedisServer, run: Any) -> None:
    async def send() -> None:
        client = connect(server.url)
        connection: Any = await client.connection_pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        try:
            await connection.send_packed_command([b"*1\r\n$4\r\nPING\r\n"], check_health=False)
            await connection.read_response()
        finally:
            await client.connection_pool.release(connection)
            await client.aclose()

    with pytest.raises(UNAVAILABLE):
        run(send())
