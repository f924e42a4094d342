"""What comes in for one endpoint: events from its lanes, retries from its ledger.

What arrives at the tail is handed to it.  What has to wait for Redis (a lane that is behind, retries that are due) is
read in a task of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from gateway.backend.connection import UNAVAILABLE
from gateway.bridge.job import Job, read_jobs
from gateway.bridge.lane import Lane
from gateway.bridge.lanes import Lanes
from gateway.bridge.ledger import State
from gateway.bridge.retries import Retries
from gateway.bridge.tools import Place, Tools
from gateway.events.event import Event
from gateway.stream.gap import Gap

log = logging.getLogger("gateway.bridge")


class Consumer(Protocol):
    """Who takes what has come in: `gateway.bridge.pump.Pump`."""

    def permits(self, now: float) -> bool:
        """Whether the endpoint is being tried, so that events are worth reading."""

    def kick(self) -> None:
        """There may be something to take."""

    def met(self, gap: Gap) -> None:
        """A hole in the log."""

    def progressed(self) -> None:
        """A replay has moved."""


class Intake:
    """For the endpoint with this id, as far as `wants` likes an event. `state` is where it stands."""

    def __init__(
        self,
        endpoint_id: str,
        wants: Callable[[Event], bool],
        state: State,
        feed: Place,
        tools: Tools,
        consumer: Consumer,
    ) -> None:
        self.wants = wants
        self.lanes = Lanes(state.position, state.ahead, lambda: feed.position)
        self.retries = Retries(endpoint_id, tools.ledger, state.retries, state.next_due)
        self._endpoint_id = endpoint_id
        self._feed = feed
        self._clock = tools.clock
        self._consumer = consumer
        self._work = asyncio.Event()
        self._work.set()
        for job in read_jobs(state.replays):
            self.lanes.replay(job)
        self._task = asyncio.create_task(self._run(), name=f"intake:{endpoint_id}")

    def fell(self, gap: Gap) -> None:
        """A hole at the tail."""
        if self.lanes.main.live:
            self.lanes.main.fell(gap)
            self._consumer.met(gap)

    def suspend(self) -> None:
        """Go on from the log, not from what is in memory."""
        self.lanes.suspend()
        self._work.set()

    def replay(self, job: Job) -> None:
        """A replay was asked for, changed or found at the start."""
        self.lanes.replay(job)
        self._work.set()

    def look(self) -> None:
        """The ledger was changed from outside: a resend."""
        self.retries.look()
        self._work.set()

    def fill(self, now: float) -> None:
        """Read for what runs dry."""
        if self.retries.wants_read(now) or (self.lanes.any_hungry and self._consumer.permits(now)):
            self._work.set()

    def end(self) -> None:
        """Read no more."""
        self._task.cancel()

    async def ended(self) -> None:
        """Wait for that."""
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._read(self._clock.now())
                failures = 0
            except UNAVAILABLE as error:
                failures += 1
                log.debug("intake.waits id=%s error=%r", self._endpoint_id, error)
                await self._pause(min(1.0, 0.05 * 2**failures))
                self._work.set()
            except Exception:
                # An intake that ends keeps an endpoint waiting in silence. Whatever this is, go on.
                log.exception("intake.failed id=%s", self._endpoint_id)
                await self._pause(1.0)
                self._work.set()
            self._consumer.kick()
            await asyncio.sleep(0)

    async def _pause(self, delay: float) -> None:
        over = asyncio.Event()
        self._clock.call_later(delay, over.set)
        await over.wait()

    async def _read(self, now: float) -> None:
        if self.retries.wants_read(now):
            await self.retries.read(now)
        if not self._consumer.permits(now):
            return
        for lane in self.lanes.hungry:
            await self._read_lane(lane)

    async def _read_lane(self, lane: Lane) -> None:
        if lane.cursor is None:
            cursor, gap = await self._feed.cursor(lane.scanned)
            lane.cursor = cursor
            if gap is not None:
                lane.fell(gap)
                self._consumer.met(gap)
        for gap in await lane.read(self.wants):
            self._consumer.met(gap)
        if lane.at_end and not lane.live:
            # Ahead of the feed, which will come by here: nothing to do until then.
            lane.waiting = True
            self._feed.after_next(lambda: self._resume(lane))
        if lane.job is not None:
            self._consumer.progressed()

    def _resume(self, lane: Lane) -> None:
        lane.waiting = False
        self._work.set()
