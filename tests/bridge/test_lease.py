"""A shard is ours only as long as its lock in Redis surely is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.backend.connection import Redis, connect
from gateway.bridge.lease import SHARDS, Leases
from tests.support.wait import wait_until

TTL = 10.0


class Clock:
    """Monotonic seconds, in the hand of the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A lock of which each command takes `seconds` of the clock."""

    def __init__(self, lock: Any, clock: Clock, seconds: float) -> None:
        self._lock = lock
        self._clock = clock
        self._seconds = seconds

    async def acquire(self) -> bool:
        got: bool = await self._lock.acquire()
        self._clock.now += self._seconds
        return got

    async def reacquire(self) -> bool:
        got: bool = await self._lock.reacquire()
        self._clock.now += self._seconds
        return got


class SlowClient:
    """A client whose locks are slow."""

    def __init__(self, client: Any, clock: Clock, seconds: float) -> None:
        self._client = client
        self._clock = clock
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def lock(self, *args: Any, **options: Any) -> Slow:
        return Slow(self._client.lock(*args, **options), self._clock, self._seconds)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    it = connect(redis_url)
    yield it
    await it.aclose()


def make(client: Any, clock: Callable[[], float], name: str = "one", **more: Any) -> Leases:
    async def nothing(shard: int | None = None) -> None:
        return None

    options: dict[str, Any] = {"taken": nothing, "give_back": nothing, "lost": lambda shard: None, "tell": nothing}
    return Leases(client, name, ttl=TTL, clock=clock, now=time.time, shuffle=lambda free: None, **{**options, **more})


async def test_what_was_not_extended_in_time_is_not_surely_ours(client: Redis) -> None:
    clock = Clock()
    leases = make(client, clock)
    assert not leases.holds(0)
    await leases.tick()
    assert leases.held == SHARDS
    clock.now += 8.9
    assert leases.holds(0)
    clock.now += 0.2
    assert not leases.holds(0)
    await leases.tick()
    assert leases.holds(0)


async def test_the_lease_counts_from_before_it_was_asked_for(client: Redis) -> None:
    clock = Clock()
    leases = make(SlowClient(client, clock, 6.0), clock)
    for _ in range(2):  # taken, then extended; the last shard has waited for no other
        await leases.tick()
        assert leases.holds(SHARDS - 1)
        clock.now += 3.1
        assert not leases.holds(SHARDS - 1)
        assert await client.exists(f"gateway:webhooks:shard:{SHARDS - 1}")


async def test_who_finds_a_shard_taken_lets_go_of_it(client: Redis) -> None:
    clock, gone = Clock(), list[int]()
    leases = make(client, clock, lost=gone.append)
    await leases.tick()
    # As if it had expired here, and been won by another.
    await client.set("gateway:webhooks:shard:7", "another")
    await leases.tick()
    assert gone == [7]
    assert not leases.holds(7)
    assert leases.held == SHARDS - 1
    # One that has only expired is taken again, and nobody is told.
    await client.delete("gateway:webhooks:shard:8")
    await leases.tick()
    assert gone == [7]
    assert leases.holds(8)


async def test_two_share_and_who_leaves_leaves_all(client: Redis) -> None:
    clock, given = Clock(), list[int]()

    async def give_back(shard: int) -> None:
        # It is still ours then: nobody else may begin before what was in flight is written down.
        assert await client.exists(f"gateway:webhooks:shard:{shard}")
        given.append(shard)

    one, two = make(client, clock, give_back=give_back), make(client, clock, "two")
    await one.tick()
    await two.tick()
    assert (one.held, two.held) == (SHARDS, 0)
    await one.tick()
    while one.held > SHARDS // 2:
        await one.tick()
    await two.tick()
    assert (one.held, two.held) == (SHARDS // 2, SHARDS // 2)
    await one.release_all()
    assert len(given) == SHARDS
    assert one.held == 0
    await two.tick()
    assert two.held == SHARDS


async def test_a_lock_that_is_extended_as_it_is_given_back_is_not_left_behind(client: Redis) -> None:
    clock, let_go, entered, go_on = Clock(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def give_back(shard: int) -> None:
        await let_go.wait()

    one, two = make(client, clock, give_back=give_back), make(client, clock, "two")
    await one.tick()
    await two.tick()
    await one.tick()
    lock = one._locks[40]
    extend = lock.reacquire

    async def slowly() -> bool:
        entered.set()
        await go_on.wait()
        return bool(await extend())

    lock.reacquire = slowly  # type: ignore[method-assign]
    extending = asyncio.create_task(one.tick())
    await entered.wait()
    let_go.set()
    for _ in range(20):  # time enough for Redis to see it released, were it not waited for
        await client.ping()
    go_on.set()
    await extending
    await wait_until(lambda: one.held == SHARDS // 2, "half of them are given back")
    assert not one.holds(40)
    await two.tick()
    assert two.held == SHARDS // 2
