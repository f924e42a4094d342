"""A Redis that is full refuses to store; it must still be read, and trimmed."""

from __future__ import annotations

from gateway.backend.connection import connect
from gateway.events.position import MAX, ZERO
from gateway.stream.store import Store
from tests.support.redisserver import RedisServer


async def test_a_full_redis_is_read(any_redis: RedisServer, stream: str) -> None:
    client = connect(any_redis.url, connections=4)
    store = Store(client)
    for _ in range(3):
        await store.append([(stream, {"type": b"a", "data": b"1"})])
    await client.execute_command("CONFIG", "SET", "maxmemory", "1")
    try:
        entries, info = await store.page(stream, ZERO, 10)
        newest, _ = await store.page_back(stream, MAX, 1)
        assert (len(entries), info.length) == (3, 3)
        assert newest == entries[-1:]
        assert (await store.info(stream)) == info
        assert await store.lock(f"{stream}.lock", 1), "what is done under it makes room"
        assert await store.trim(stream, max_events=1) == 2
    finally:
        await client.execute_command("CONFIG", "SET", "maxmemory", "0")
        await client.aclose()
