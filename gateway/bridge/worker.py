"""The bridge of one process: holds shards, and drives a pump for each active endpoint in them.

What is to run follows from three facts: which endpoints there are, which are active, which shards are held.  Every
change of one of them ends in `_reconcile`, which makes what runs agree with what should.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from gateway.backend.connection import UNAVAILABLE
from gateway.bridge.committer import Committer
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.feed import Feed
from gateway.bridge.job import read_jobs
from gateway.bridge.lease import Leases, shard_of
from gateway.bridge.parts import Pace, Parts
from gateway.bridge.pump import Pump
from gateway.bridge.render import Bodies
from gateway.bridge.roster import Roster
from gateway.bridge.survey import survey
from gateway.bridge.tools import Tools
from gateway.events.event import Event
from gateway.events.filter import predicate
from gateway.stream.log import NotReady, NotServed

log = logging.getLogger("gateway.bridge")

_GATHER = 0.05


class Worker:
    """`name` tells this process from others."""

    def __init__(self, parts: Parts, *, name: str, product: str, pace: Pace) -> None:
        self.pumps: dict[str, Pump] = {}
        self._log = parts.log
        self._registry = parts.registry
        self._ledger = parts.ledger
        self._metrics = parts.metrics
        self._clock = parts.clock
        self._pace = pace
        self._failpoint = parts.failpoint
        self._feeds: dict[str, Feed] = {}
        self._epochs: dict[int, int] = {}
        self._busy: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._called = asyncio.Event()
        self._roster = Roster(parts, changed=self._changed, touched=self._touched, called=self._called.set)
        self._committer = Committer(parts.ledger, parts.metrics, self._fenced, parts.failpoint)
        self._leases = self._make_leases(parts, name)
        self._tools = self._make_tools(parts, product)

    def _make_leases(self, parts: Parts, name: str) -> Leases:
        return Leases(
            parts.client,
            name,
            ttl=self._pace.lease,
            clock=parts.monotonic,
            now=parts.clock.now,
            shuffle=parts.shuffle,
            taken=self._taken,
            give_back=self._give_back,
            lost=self._lost,
            tell=lambda: parts.registry.announce(""),
        )

    def _make_tools(self, parts: Parts, product: str) -> Tools:
        return Tools(
            ledger=parts.ledger,
            sender=parts.sender,
            bodies=Bodies(),
            clock=parts.clock,
            luck=parts.luck,
            metrics=parts.metrics,
            product=product,
            failpoint=parts.failpoint,
            may_send=lambda endpoint_id: self._leases.holds(shard_of(endpoint_id)),
            disable=self._disable,
        )

    def __repr__(self) -> str:
        return f"<Worker {self._leases.held} shards, {len(self.pumps)} pumps, {len(self._roster)} endpoints>"

    # Life.

    def start(self) -> None:
        """Begin, in tasks of its own."""
        for loop in (self._roster.follow(), self._keep_leases(), self._sweep()):
            self._spawn(loop)

    async def stop(self) -> None:
        """Start nothing more, finish what is in flight, write it, and leave the shards to the others."""
        pending = set(self._tasks)
        while pending:
            # Again until it has worked: a cancellation that meets redis-py in the middle of a command can get lost
            # (seen on a loaded machine), and the task would sleep and go on for ever.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=0.5)
        try:
            await self._leases.release_all()
        except UNAVAILABLE as error:
            log.warning("lease.not_released error=%r", error)
        await asyncio.gather(*(self._end(pump) for pump in list(self.pumps.values())))
        await self._committer.stop()
        for feed in self._feeds.values():
            feed.close()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("bridge.defect", exc_info=task.exception())

    # Which endpoints there are.

    def rights_changed(self) -> None:
        """Look at all endpoints again, soon: what their makers may see is another."""
        self._roster.rights_changed()

    async def _changed(self, ids: list[str]) -> None:
        for feed in self._feeds.values():
            feed.changed()
        for endpoint_id in ids:
            await self._reconcile(endpoint_id)

    async def _touched(self, endpoint_id: str) -> None:
        pump = self.pumps.get(endpoint_id)
        if pump is not None:
            pump.look()
            for job in read_jobs(await self._ledger.replays(endpoint_id)):
                pump.replay(job)

    def _disable(self, endpoint: Endpoint, reason: str) -> None:
        self._spawn(self._store_disabled(endpoint.id, reason))

    async def _store_disabled(self, endpoint_id: str, reason: str) -> None:
        while True:
            try:
                await self._registry.disable(endpoint_id, reason, int(self._clock.now() * 1000))
            except UNAVAILABLE:
                await asyncio.sleep(1.0)
                continue
            return

    # Which shards are held.

    async def _keep_leases(self) -> None:
        while True:
            self._failpoint("extending")
            try:
                await self._leases.tick()
            except UNAVAILABLE as error:
                log.debug("lease.waits error=%r", error)
            except Exception:
                log.exception("lease.failed")
            survey(self._metrics, list(self.pumps.values()), self._leases.held, self._clock.now())
            for pump in list(self.pumps.values()):
                pump.kick()  # it may have paused while the lease was in doubt
            with suppress(TimeoutError):
                await asyncio.wait_for(self._called.wait(), self._pace.lease / 4)
                await asyncio.sleep(_GATHER)  # who leaves lets go of many
            self._called.clear()

    async def _taken(self, shard: int) -> None:
        self._epochs[shard] = await self._ledger.next_epoch()
        for endpoint in self._roster.in_shard(shard):
            await self._reconcile(endpoint.id)

    async def _give_back(self, shard: int) -> None:
        self._epochs.pop(shard, None)
        await asyncio.gather(*(self._reconcile(it.id) for it in self._roster.in_shard(shard)))

    def _lost(self, shard: int) -> None:
        self._epochs.pop(shard, None)
        for endpoint in self._roster.in_shard(shard):
            self._drop(endpoint.id)

    def _fenced(self, pump: Pump) -> None:
        """Somebody claimed the endpoint after us. If the shard is ours all the same, claim it anew."""
        log.warning("endpoint.fenced id=%s epoch=%d", pump.endpoint.id, pump.epoch)
        self._metrics.commits.labels("fenced").inc()
        if self.pumps.get(pump.endpoint.id) is pump:
            self._drop(pump.endpoint.id)
            self._spawn(self._reclaim(pump.endpoint.id))

    async def _reclaim(self, endpoint_id: str) -> None:
        shard = shard_of(endpoint_id)
        while shard in self._epochs:
            try:
                self._epochs[shard] = await self._ledger.next_epoch()
                await self._reconcile(endpoint_id)
            except UNAVAILABLE:
                await asyncio.sleep(0.5)
                continue
            return

    # What runs.

    async def _reconcile(self, endpoint_id: str) -> None:
        async with self._busy.setdefault(endpoint_id, asyncio.Lock()):
            endpoint = self._roster.endpoints.get(endpoint_id)
            epoch = self._epochs.get(shard_of(endpoint_id))
            pump = self.pumps.get(endpoint_id)
            if endpoint is None or epoch is None or not endpoint.config.active:
                if pump is not None:
                    await self._end(pump)
                if endpoint is None:
                    self._busy.pop(endpoint_id, None)
            elif pump is None:
                await self._begin(endpoint, epoch)
            elif pump.endpoint != endpoint:
                pump.refresh(endpoint, self._wants(endpoint, self._feeds[endpoint.config.stream]))

    async def _begin(self, endpoint: Endpoint, epoch: int) -> None:
        try:
            feed = await self._feed(endpoint.config.stream)
        except (NotServed, NotReady) as error:
            log.warning("endpoint.waits id=%s error=%s", endpoint.id, error)
            return
        state = await self._ledger.claim(endpoint.id, epoch)
        if state is None:
            return
        pump = Pump(endpoint, self._wants(endpoint, feed), state, epoch, feed, self._tools, self._committer.mark)
        self.pumps[endpoint.id] = feed.pumps[endpoint.id] = pump
        feed.changed()

    def _wants(self, endpoint: Endpoint, feed: Feed) -> Callable[[Event], bool]:
        return feed.brings_own_url if endpoint.system else predicate(endpoint.filter) or _everything

    async def _feed(self, stream: str) -> Feed:
        feed = self._feeds.get(stream)
        if feed is None:
            cursor = await self._log.latest(stream)
            feed = self._feeds.get(stream)
            if feed is None:
                feed = self._feeds[stream] = Feed(self._log, cursor, self._roster.on_stream)
        return feed

    async def _end(self, pump: Pump) -> None:
        await pump.stop(self._pace.patience)
        await self._committer.written(pump, 2.0)
        if self.pumps.get(pump.endpoint.id) is pump:
            self._drop(pump.endpoint.id)

    def _drop(self, endpoint_id: str) -> None:
        pump = self.pumps.pop(endpoint_id, None)
        if pump is not None:
            pump.abandon()
            feed = self._feeds[pump.endpoint.config.stream]
            feed.pumps.pop(endpoint_id, None)
            feed.changed()

    # Chores.

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._pace.sweep)
            oldest = int((self._clock.now() - self._pace.logs_age) * 1000)
            for pump in list(self.pumps.values()):
                pump.sweep(oldest)


def _everything(event: Event) -> bool:
    return True
