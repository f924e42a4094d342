"""The pump of one endpoint: takes events from its lanes and retries from its ledger, posts them, settles them.

It runs on callbacks: an event that arrives at the tail is on the wire without a task switch in between.  Only what has
to wait for Redis (a lane that is behind, retries that are due) runs in the pump's own task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.backend.connection import UNAVAILABLE
from gateway.bridge.alarm import Alarm
from gateway.bridge.attempt import Attempt
from gateway.bridge.breaker import Breaker
from gateway.bridge.courier import Courier, Result
from gateway.bridge.delivery import Delivery, Trigger
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.health import Health
from gateway.bridge.job import Job, read_jobs
from gateway.bridge.lane import Lane
from gateway.bridge.lanes import Lanes
from gateway.bridge.ledger import Commit, State
from gateway.bridge.notices import Notices, reply
from gateway.bridge.outcome import Outcome
from gateway.bridge.rate import Rate
from gateway.bridge.retries import Retries
from gateway.bridge.tools import Place, Tools
from gateway.events.event import Event
from gateway.events.position import EventId, format_id
from gateway.stream.gap import Gap

log = logging.getLogger("gateway.bridge")

_UNCOMMITTED = 2000
"""Deliveries that may wait for Redis to take their records; beyond, nothing new is started."""


class Pump:
    """Drives one endpoint while this process owns it, under `epoch`. `dirty` is told when there is work to commit."""

    def __init__(
        self,
        endpoint: Endpoint,
        wants: Callable[[Event], bool],
        state: State,
        epoch: int,
        feed: Place,
        tools: Tools,
        dirty: Callable[[Pump], None],
    ) -> None:
        self.endpoint = endpoint
        self.wants = wants
        """Whether the endpoint gets an event."""
        self.epoch = epoch
        self.feed = feed
        self._lanes = Lanes(state.position, lambda: feed.position)
        self.main = self._lanes.main
        self.retries = Retries(endpoint.id, tools.ledger, state.retries, state.next_due)
        self.in_flight = 0
        self._tools = tools
        self._dirty = dirty
        self._health = Health(endpoint, state.failing_since, tools.luck)
        self._equip(endpoint)
        self._pending = Commit(endpoint.id, epoch)
        self._written = state.position
        self._running = True
        self._alarm = Alarm(tools.clock, self.kick)
        self._work = asyncio.Event()
        self._posts: set[asyncio.Task[None]] = set()
        for job in read_jobs(state.replays):
            self.replay(job)
        self._task = asyncio.create_task(self._read(), name=f"pump:{endpoint.id}")

    def _equip(self, endpoint: Endpoint) -> None:
        self._notices = Notices(endpoint, self._tools.clock)
        self._rate = Rate(endpoint.config.rate_limit)
        self._courier = Courier(endpoint, self._tools)

    @property
    def breaker(self) -> Breaker:
        """Whether it is being tried at all."""
        return self._health.breaker

    def __repr__(self) -> str:
        state = "open" if self.breaker.open else "closed"
        return f"<Pump {self.endpoint.id} {state} in_flight={self.in_flight} at={format_id(self.main.low_water())}>"

    # What others tell it.

    def offer(self, event: Event) -> None:
        """An event at the tail that the endpoint wants."""
        if self.main.offer(event):
            self.kick()

    def fell(self, gap: Gap) -> None:
        """A hole at the tail."""
        if self.main.live:
            self.main.fell(gap)
            self._gap(gap)

    def suspend(self) -> None:
        """Go on from the log, not from what is in memory."""
        self._lanes.suspend()
        self._work.set()

    def refresh(self, endpoint: Endpoint, wants: Callable[[Event], bool]) -> None:
        """The endpoint was changed."""
        self.endpoint = endpoint
        self.wants = wants
        self.breaker.max_in_flight = endpoint.config.max_in_flight
        self._equip(endpoint)
        self.suspend()  # what was queued was chosen by the filter of before

    def replay(self, job: Job) -> None:
        """A replay was asked for, changed or found at the start."""
        self._lanes.replay(job)
        self._work.set()

    def look(self) -> None:
        """The ledger was changed from outside: a resend."""
        self.retries.look()
        self._work.set()

    # Starting.

    def kick(self) -> None:
        """Start what may be started; arrange for the rest."""
        now = self._tools.clock.now()
        while self._running and self._may_start(now):
            delivery, lane = self._next(now)
            if delivery is None:
                break
            self._start(delivery, lane, now)
        if self._running and self._needs_reading(now):
            self._work.set()
        self._arm(now)

    def _may_start(self, now: float) -> bool:
        return (
            self.in_flight < self.breaker.limit
            and self._health.permits(now)
            and self._rate.permits(now)
            and len(self._pending.deliveries) < _UNCOMMITTED
            and self._tools.may_send(self.endpoint.id)
        )

    def _next(self, now: float) -> tuple[Delivery | None, Lane | None]:
        """Retries first: they have waited longest. Then the endpoint's own lane, then replays."""
        ordered = self.endpoint.config.ordered
        if ordered and self.in_flight:
            return None, None
        if (delivery := self.retries.take()) is not None:
            return delivery, None
        if ordered and self.retries.any:
            return None, None
        if (taken := self._lanes.take()) is None:
            return None, None
        event, lane = taken
        return self._delivery(event, lane.job, now), lane

    def _delivery(self, event: Event, job: Job | None, now: float) -> Delivery:
        trigger: Trigger = "event" if job is None else "replay"
        # The same event makes the same log entry, also when a crash has it delivered twice.
        name = f"log_{format_id(event.id)}" + ("" if job is None else f"-{job.id.removeprefix('rpl_')}")
        envelope = self.endpoint.config.dialect
        return Delivery(name, event, trigger, int(now * 1000), envelope=envelope)

    def _start(self, delivery: Delivery, lane: Lane | None, now: float) -> None:
        self.in_flight += 1
        self._rate.spend(now)
        life = 0 if lane is None else lane.life
        task = asyncio.create_task(self._deliver(delivery, lane, life))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    def _needs_reading(self, now: float) -> bool:
        if self.retries.wants_read(now):
            return True
        if not self._health.permits(now):
            return False
        return bool(self._lanes.hungry)

    def _arm(self, now: float) -> None:
        """Set the timer to when something may be possible that is not now."""
        times = [self._health.quiet_until]
        if self.breaker.open:
            times.append(self.breaker.probe_at)
        if self.retries.next_due is not None:
            times.append(self.retries.next_due / 1000)
        if self._lanes.queued or self.retries.ready:
            times.append(self._rate.next_at)
        at = min((time for time in times if time > now), default=0.0)
        if at and self._running:
            self._alarm.set(at, now)

    # Attempting.

    async def _deliver(self, delivery: Delivery, lane: Lane | None, life: int) -> None:
        result = await self._courier.attempt(delivery)
        self._tools.failpoint("posted")
        self.in_flight -= 1
        self._settle(delivery, result)
        if lane is not None:
            lane.settled(delivery.event.id, life)
        self.kick()

    def _settle(self, delivery: Delivery, result: Result) -> None:
        attempt, outcome, own_url = result
        self.retries.settled(delivery)
        if own_url:
            self._learn(outcome, attempt)
        outbox, replies = self._pending.outbox, self.endpoint.config.reply_stream
        if outcome.status == "delivered" and replies is not None:
            outbox.append(reply(delivery, attempt, self.endpoint, replies))
        if outcome.status == "failed":
            outbox.append(self._notices.exhausted(delivery))
        self._pending.deliveries[delivery.id] = delivery
        self._dirty(self)

    def _learn(self, outcome: Outcome, attempt: Attempt) -> None:
        now = self._tools.clock.now()
        reason = self._health.learn(self.endpoint, outcome, attempt, now, self._notices, self._pending)
        if self.breaker.open:
            self._lanes.suspend()
        if reason is not None and self._running:
            log.warning("endpoint.disabled id=%s reason=%s", self.endpoint.id, reason)
            self._running = False
            self._pending.outbox.append(self._notices.disabled(reason, attempt))
            self._tools.disable(self.endpoint, reason)

    # Reading.

    async def _read(self) -> None:
        self._work.set()
        failures = 0
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._read_once(self._tools.clock.now())
                failures = 0
            except UNAVAILABLE as error:
                failures += 1
                log.debug("pump.waits id=%s error=%r", self.endpoint.id, error)
                await self._pause(min(1.0, 0.05 * 2**failures))
                self._work.set()
            except Exception:
                # A pump that ends keeps an endpoint waiting in silence. Whatever this is, go on.
                log.exception("pump.failed id=%s", self.endpoint.id)
                await self._pause(1.0)
                self._work.set()
            self.kick()
            await asyncio.sleep(0)

    async def _pause(self, delay: float) -> None:
        over = asyncio.Event()
        self._tools.clock.call_later(delay, over.set)
        await over.wait()

    async def _read_once(self, now: float) -> None:
        if self.retries.wants_read(now):
            await self.retries.read(now)
        if not self._health.permits(now):
            return
        for lane in self._lanes.hungry:
            await self._read_lane(lane)

    async def _read_lane(self, lane: Lane) -> None:
        if lane.cursor is None:
            cursor, gap = await self.feed.cursor(lane.scanned)
            lane.cursor = cursor
            if gap is not None:
                lane.fell(gap)
                self._gap(gap)
        for gap in await lane.read(self.wants):
            self._gap(gap)
        if lane.at_end and not lane.live:
            # Ahead of the feed, which will come by here: nothing to do until then.
            lane.waiting = True
            self.feed.after_next(lambda: self._resume(lane))
        if lane.job is not None:
            self._dirty(self)

    def _resume(self, lane: Lane) -> None:
        lane.waiting = False
        self._work.set()

    def _gap(self, gap: Gap) -> None:
        log.warning("stream.gap id=%s after=%s reason=%s", self.endpoint.id, format_id(gap.requested), gap.reason)
        self._pending.outbox.append(self._notices.gap(gap))
        self._dirty(self)

    # Committing.

    def sweep(self, oldest: int) -> None:
        """Have the position stored although nothing was delivered, and old log records dropped."""
        if self.main.low_water() != self._written:
            self._pending.oldest = oldest
            self._dirty(self)

    def take_commit(self) -> Commit:
        """All that is to be written now; the pump begins a new one."""
        commit, self._pending = self._pending, Commit(self.endpoint.id, self.epoch)
        position = self.main.low_water()
        if position != self._written:
            commit.state["position"] = format_id(position)
        commit.replays.update((job.id, job.dump()) for job in self._lanes.progress())
        return commit

    def committed(self, commit: Commit, position: EventId | None) -> None:
        """The ledger has it."""
        if position is not None:
            self._written = position
        for delivery in commit.deliveries.values():
            self.retries.written(delivery)
        if commit.deliveries:
            self.kick()

    @property
    def idle(self) -> bool:
        """Nothing in flight and nothing to write."""
        return not self.in_flight and not self._pending

    async def stop(self, patience: float) -> None:
        """Start nothing more, and wait up to `patience` seconds for what is in flight."""
        self._running = False
        self._alarm.cancel()
        if self._posts:
            await asyncio.wait(self._posts, timeout=patience)
        self.abandon()
        await asyncio.gather(self._task, return_exceptions=True)

    def abandon(self) -> None:
        """End at once: somebody else owns the endpoint."""
        self._running = False
        self._task.cancel()
        self._alarm.cancel()
        for task in list(self._posts):
            task.cancel()
