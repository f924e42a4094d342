"""Streams stay bounded whoever feeds them, and one process at a time sees to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis

from gateway.backend.connection import connect
from gateway.events.filter import GlobSet
from gateway.stream.retention import Retention
from gateway.stream.store import Store
from tests.support.bulk import fill
from tests.support.redisserver import RedisServer, command_calls
from tests.support.wait import wait_until


@pytest.fixture
async def store(valkey: RedisServer) -> AsyncIterator[Store]:
    client = connect(valkey.url)
    yield Store(client)
    await client.aclose()


def retention(
    store: Store, *names: str, events: int = 0, age: float = 0, now: float = 0, every: float = 1
) -> Retention:
    return Retention(
        store,
        GlobSet(names),
        max_events=events,
        max_age=age,
        interval=every,
        now=lambda: now,
        trimmed=lambda count: None,
    )


async def test_by_count_exactly_also_far_behind(store: Store, db: redis.Redis, stream: str) -> None:
    fill(db, stream, 1, 35_000)
    assert await retention(store, stream, events=1234).trim_all() == 35_000 - 1234
    assert db.xlen(stream) == 1234
    assert db.xrange(stream, count=1)[0][0] == b"33767-0"
    assert await retention(store, stream, events=1234).trim_all() == 0


async def test_by_age(store: Store, db: redis.Redis, stream: str) -> None:
    for seconds in range(100, 200):
        db.xadd(stream, {"type": "a", "data": "1"}, id=f"{seconds * 1000}-5")
    assert await retention(store, stream, age=30, now=200).trim_all() == 70
    assert db.xrange(stream, count=1)[0][0] == b"170000-5"
    assert await retention(store, stream, age=3000, now=200).trim_all() == 0


async def test_only_streams_that_are_served(store: Store, db: redis.Redis, stream: str) -> None:
    for name in (stream + ".a", stream + ".b", stream + "x"):
        fill(db, name, 1, 10)
    await retention(store, stream + ".*", events=3).trim_all()
    assert [db.xlen(stream + end) for end in (".a", ".b", "x")] == [3, 3, 10]


async def test_a_key_that_is_no_stream_is_left_alone_and_hinders_nobody(
    store: Store, db: redis.Redis, stream: str
) -> None:
    first, second = stream + ".a", stream + ".b"
    db.set(first, "text", ex=60)
    fill(db, second, 1, 10)
    await retention(store, first, second, events=3).trim_all()
    assert db.xlen(second) == 3 and db.get(first) == b"text"


async def test_one_process_at_a_time(store: Store, db: redis.Redis, stream: str) -> None:
    fill(db, stream, 1, 10)
    before = command_calls(db).get("xtrim", 0)
    several = [retention(store, stream, events=5, every=30) for _ in range(8)]
    tasks = [asyncio.create_task(one.run()) for one in several]
    await wait_until(lambda: db.xlen(stream) == 5)
    await wait_until(lambda: command_calls(db)["set"] >= 8)
    assert command_calls(db)["xtrim"] - before <= 2
    assert 0 < db.pttl("gateway:retention") <= 30_000
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    db.delete("gateway:retention")


async def test_raw_xadd_stays_bounded(store: Store, db: redis.Redis, stream: str) -> None:
    task = asyncio.create_task(retention(store, stream, events=50, every=0.02).run())
    for start in range(1, 2001, 100):
        fill(db, stream, start, start + 99)
        await wait_until(lambda: db.xlen(stream) == 50)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await wait_until(lambda: not db.exists("gateway:retention"))


async def test_no_limits_means_no_trimming(store: Store) -> None:
    await retention(store, "x").run()
