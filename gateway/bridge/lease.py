"""Who owns which endpoints: 64 shards, each held by one bridge process through a redis-py `Lock`.

A lock that is not extended expires, and its shard moves.  Processes know of each other by a sorted set of heartbeats,
and each holds its share: one that holds more gives back, one that holds less takes what is free.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.backend.connection import UNAVAILABLE, Redis
from gateway.bridge.ledger import Lock, LockError

log = logging.getLogger("gateway.bridge")

SHARDS: Final = 64
_MEMBERS: Final = "gateway:webhooks:bridges"


def shard_of(endpoint_id: str) -> int:
    """The shard that an endpoint belongs to."""
    return zlib.crc32(endpoint_id.encode()) % SHARDS


async def any_bridge(client: Redis) -> bool:
    """Whether a bridge runs, or has ended without saying so."""
    members: Any = client
    return bool(await members.zcard(_MEMBERS))


class Leases:
    """The shards that this process holds. Call `tick` every third of `ttl` seconds or sooner.

    `clock` is monotonic seconds, `now` Unix seconds. `lost` is called for a shard that has slipped away, `give_back`
    before one is released; `taken` after one was won. `tell` has the other processes call `tick` at once.
    """

    def __init__(
        self,
        client: Redis,
        name: str,
        *,
        ttl: float,
        clock: Callable[[], float],
        now: Callable[[], float],
        shuffle: Callable[[list[int]], None],
        taken: Callable[[int], Awaitable[None]],
        give_back: Callable[[int], Awaitable[None]],
        lost: Callable[[int], None],
        tell: Callable[[], Awaitable[None]],
    ) -> None:
        self._client: Any = client
        self._name = name
        self._ttl = ttl
        self._clock = clock
        self._now = now
        self._shuffle = shuffle
        self._taken = taken
        self._give_back = give_back
        self._lost = lost
        self._tell = tell
        self._locks: dict[int, Lock] = {}
        self._extended: dict[int, float] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        """One lock is extended or released at a time: one that is extended as it is released would be nobody's."""

    @property
    def held(self) -> int:
        """How many shards."""
        return len(self._locks)

    def holds(self, shard: int) -> bool:
        """Whether the shard is surely ours: extended lately enough that its lock cannot have expired."""
        at = self._extended.get(shard)
        return at is not None and self._clock() - at < 0.9 * self._ttl

    async def tick(self) -> None:
        """Extend what is held, and move towards the fair share. Raises when Redis is away."""
        share = await self._share()
        for shard in list(self._locks):
            await self._extend(shard)
        for shard in [shard for shard in self._locks if shard not in self._leaving][share:]:
            self._leaving[shard] = asyncio.create_task(self._leave(shard))
        free = [shard for shard in range(SHARDS) if shard not in self._locks]
        self._shuffle(free)
        for shard in free:
            if len(self._locks) >= share:
                break
            await self._try(shard)

    async def _leave(self, shard: int) -> None:
        """Aside, because attempts in flight are waited for, and the other shards must be extended meanwhile."""
        try:
            await self._give_back(shard)
            await self._release(shard)
            await self._tell()
        except UNAVAILABLE as error:
            log.warning("lease.not_released shard=%d error=%r", shard, error)
        finally:
            del self._leaving[shard]

    async def release_all(self) -> None:
        """Give every shard back, each as soon as it can be, and leave: the others need not wait for locks to expire."""
        for shard in self._locks:
            if shard not in self._leaving:
                self._leaving[shard] = asyncio.create_task(self._leave(shard))
        leaving = list(self._leaving.values())
        try:
            # At once: as long as we count, the others' share has no room for what is free while something hangs here.
            await self._client.zrem(_MEMBERS, self._name)
        finally:
            await asyncio.gather(*leaving, return_exceptions=True)
        await self._tell()

    async def _share(self) -> int:
        now = self._now()
        pipe = self._client.pipeline(transaction=True)
        pipe.zadd(_MEMBERS, {self._name: now})
        pipe.zremrangebyscore(_MEMBERS, "-inf", now - self._ttl)
        pipe.zcard(_MEMBERS)
        joined, _, members = await pipe.execute()
        if joined:
            await self._tell()
        return -(-SHARDS // max(1, int(members)))

    async def _try(self, shard: int) -> None:
        begun = self._clock()
        lock = self._client.lock(f"gateway:webhooks:shard:{shard}", timeout=self._ttl, blocking=False)
        if await lock.acquire():
            self._locks[shard] = lock
            self._extended[shard] = begun
            await self._taken(shard)

    async def _extend(self, shard: int) -> None:
        async with self._turn:
            begun = self._clock()
            lock = self._locks.get(shard)
            if lock is None:  # given back while others were extended
                return
            try:
                await lock.reacquire()
            except LockError:
                # Expired while Redis or we were away. If nobody took it since, it is ours again and nothing has
                # happened: had somebody owned it in between, their epoch would refuse our writes.
                if not await lock.acquire():
                    log.warning("lease.lost shard=%d", shard)
                    del self._locks[shard], self._extended[shard]
                    self._lost(shard)
                    return
            self._extended[shard] = begun

    async def _release(self, shard: int) -> None:
        async with self._turn:
            lock = self._locks.pop(shard, None)
            self._extended.pop(shard, None)
            if lock is None:
                return
            try:
                await lock.release()
            except LockError:
                log.debug("lease.expired shard=%d", shard)
