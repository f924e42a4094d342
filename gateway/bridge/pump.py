"""The pump of one endpoint: takes events from its lanes and retries from its ledger, posts them, settles them.

It runs on callbacks: an event that arrives at the tail is on the wire without a task switch in between.  Only what has
to wait for Redis (a lane that is behind, retries that are due) runs in the pump's own task.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.backend.connection import UNAVAILABLE
from gateway.bridge.attempt import Attempt, Phases
from gateway.bridge.breaker import Breaker
from gateway.bridge.clock import Clock, Timer
from gateway.bridge.delivery import Delivery, Trigger
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.job import Job, read_jobs
from gateway.bridge.lane import Lane
from gateway.bridge.ledger import Commit, Ledger, State
from gateway.bridge.metrics import BridgeMetrics
from gateway.bridge.notices import Notices, reply
from gateway.bridge.outcome import Outcome, judge
from gateway.bridge.rate import Rate
from gateway.bridge.render import Bodies, Stationery
from gateway.bridge.retries import Retries
from gateway.bridge.schedule import Step, plan
from gateway.events.event import Event
from gateway.events.position import EventId, format_id, milliseconds
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap

log = logging.getLogger("gateway.bridge")

_UNCOMMITTED = 2000
"""Deliveries that may wait for Redis to take their records; beyond, nothing new is started."""


class Poster(Protocol):
    """What a pump needs of `gateway.bridge.sender.Sender`."""

    async def post(self, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Attempt: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What all pumps of a process share."""

    ledger: Ledger
    sender: Poster
    bodies: Bodies
    clock: Clock
    luck: Callable[[], float]
    metrics: BridgeMetrics
    product: str
    failpoint: Callable[[str], None]
    """Called with a name at places where a test may want to end the process."""
    dirty: Callable[[Pump], None]
    """Called when there is something to commit."""
    may_send: Callable[[str], bool]
    """Whether this process surely owns the endpoint now."""
    disable: Callable[[Endpoint, str], None]


class Place(Protocol):
    """Where a pump reads: `gateway.bridge.feed.Feed`."""

    @property
    def position(self) -> EventId: ...

    async def cursor(self, position: EventId) -> tuple[Cursor, Gap | None]: ...

    def after_next(self, call: Callable[[], None]) -> None: ...


class Pump:
    """Drives one endpoint while this process owns it, under `epoch`."""

    def __init__(
        self,
        endpoint: Endpoint,
        wants: Callable[[Event], bool],
        state: State,
        epoch: int,
        feed: Place,
        tools: Tools,
    ) -> None:
        self.endpoint = endpoint
        self.wants = wants
        """Whether the endpoint gets an event."""
        self.epoch = epoch
        self.feed = feed
        self.main = Lane(state.position, lambda: feed.position)
        self.lanes = [self.main]
        self.breaker = Breaker(endpoint.config.max_in_flight, state.failing_since, tools.luck)
        self.retries = Retries(endpoint.id, tools.ledger, state.retries, state.next_due)
        self.in_flight = 0
        self._tools = tools
        self._notices = Notices(endpoint, tools.clock)
        self._rate = Rate(endpoint.config.rate_limit)
        self._stationery = Stationery(endpoint, tools.bodies, tools.product)
        self._pending = Commit(endpoint.id, epoch)
        self._written = state.position
        self._quiet_until = 0.0
        self._running = True
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._work = asyncio.Event()
        self._posts: set[asyncio.Task[None]] = set()
        for job in read_jobs(state.replays):
            self.replay(job)
        self._task = asyncio.create_task(self._read(), name=f"pump:{endpoint.id}")

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
        for lane in self.lanes:
            lane.suspend()
        self._work.set()

    def refresh(self, endpoint: Endpoint, wants: Callable[[Event], bool]) -> None:
        """The endpoint was changed."""
        self.endpoint = endpoint
        self.wants = wants
        self.breaker.max_in_flight = endpoint.config.max_in_flight
        self._notices = Notices(endpoint, self._tools.clock)
        self._rate = Rate(endpoint.config.rate_limit)
        self._stationery = Stationery(endpoint, self._tools.bodies, self._tools.product)
        self.suspend()  # what was queued was chosen by the filter of before

    def replay(self, job: Job) -> None:
        """A replay was asked for, changed or found at the start."""
        lane = next((lane for lane in self.lanes if lane.job is not None and lane.job.id == job.id), None)
        if job.status != "running":
            if lane is not None:
                self.lanes.remove(lane)
            return
        if lane is None:
            self.lanes.append(Lane(job.position, lambda: self.feed.position, job))
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
            and self.breaker.permits(now)
            and now >= self._quiet_until
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
        for lane in self.lanes:
            event = lane.take()
            if event is not None:
                return self._delivery(event, lane.job, now), lane
        return None, None

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
        if not self.breaker.permits(now) or now < self._quiet_until:
            return False
        return any(lane.wants_events for lane in self.lanes)

    def _arm(self, now: float) -> None:
        """Set the timer to when something may be possible that is not now."""
        times = [self._quiet_until]
        if self.breaker.open:
            times.append(self.breaker.probe_at)
        if self.retries.next_due is not None:
            times.append(self.retries.next_due / 1000)
        if any(lane.queued for lane in self.lanes) or self.retries.ready:
            times.append(self._rate.next_at)
        at = min((time for time in times if time > now), default=0.0)
        if not at or not self._running:
            return
        if self._timer is None or at < self._timer_at or self._timer_at <= now:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._tools.clock.call_later(at - now, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.kick()

    # Attempting.

    def _steps(self, event: Event) -> tuple[Step, ...]:
        if not self._brings_url(event):
            return self.endpoint.steps
        has_failover = event.webhook_failover_url is not None
        return plan(self.endpoint.dialect, self.endpoint.config.retry, failover=has_failover)

    def _brings_url(self, event: Event) -> bool:
        return event.webhook_url is not None and self.endpoint.config.overridable

    def _url(self, event: Event, step: Step) -> str:
        config = self.endpoint.config
        own = not self._brings_url(event)
        url, failover = (config.url, config.failover_url) if own else (event.webhook_url, event.webhook_failover_url)
        return (failover if step.failover else url) or url or config.url

    async def _deliver(self, delivery: Delivery, lane: Lane | None, life: int) -> None:
        steps = self._steps(delivery.event)
        step = steps[min(delivery.step, len(steps) - 1)]
        url = self._url(delivery.event, step)
        now = self._tools.clock.now()
        try:
            request = self._stationery.request(delivery.event, delivery.attempts + 1, url, now)
        except ValueError as error:
            attempt = Attempt(url, now, {}, Phases(0.0), error="unrenderable", detail=str(error)[:300])
        else:
            if delivery.trigger == "event" and not delivery.attempts:
                self._tools.metrics.added_latency(max(0.0, now - milliseconds(delivery.event.id) / 1000))
            attempt = await self._tools.sender.post(url, request.headers, request.body, self.endpoint.timeout)
        self._tools.failpoint("posted")
        self.in_flight -= 1
        self._settle(delivery, attempt, steps)
        if lane is not None:
            lane.settled(delivery.event.id, life)
        self.kick()

    def _settle(self, delivery: Delivery, attempt: Attempt, steps: tuple[Step, ...]) -> None:
        now = self._tools.clock.now()
        own = not self._brings_url(delivery.event)
        outcome = judge(delivery, attempt, self.endpoint.dialect, steps, now, self._tools.luck, own_url=own)
        delivery.note(attempt.record(delivery.attempts + 1))
        delivery.status, delivery.code, delivery.error = outcome.status, attempt.status, attempt.error
        delivery.step += outcome.charged and outcome.status == "retrying"
        delivery.due = None if outcome.wait is None else math.ceil((now + outcome.wait) * 1000)
        self.retries.settled(delivery)
        self._tools.metrics.attempted(outcome.status, attempt)
        if own:
            self._learn(outcome, attempt, now)
        if outcome.status == "delivered" and self.endpoint.config.reply_stream is not None:
            self._pending.outbox.append(reply(delivery, attempt, self.endpoint, self.endpoint.config.reply_stream))
        if outcome.status == "failed":
            self._pending.outbox.append(self._notices.exhausted(delivery))
        self._pending.deliveries[delivery.id] = delivery
        self._tools.dirty(self)

    def _learn(self, outcome: Outcome, attempt: Attempt, now: float) -> None:
        """What the attempt says of the endpoint, as long as it went to the endpoint's own URL."""
        breaker, state = self.breaker, self._pending.state
        since = breaker.failing_since
        if outcome.pause:
            self._quiet_until = max(self._quiet_until, now + outcome.pause)
        if outcome.status == "delivered":
            if breaker.succeeded():
                self._pending.outbox.append(self._notices.recovered(since or now))
        elif outcome.gone:
            self._disable("gone", attempt)
        elif outcome.blames_receiver:
            if breaker.failed(now):
                self._pending.outbox.append(self._notices.failing(breaker.failing_since or now, attempt))
                log.warning(
                    "endpoint.failing id=%s error=%s status=%s", self.endpoint.id, attempt.error, attempt.status
                )
            if breaker.open:
                for lane in self.lanes:
                    lane.suspend()
            if breaker.hopeless(now):
                self._disable("failing", attempt)
        if breaker.failing_since != since:
            state["failing_since"] = "" if breaker.failing_since is None else repr(breaker.failing_since)

    def _disable(self, reason: str, attempt: Attempt) -> None:
        if self._running:
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
        if not self.breaker.permits(now) or now < self._quiet_until:
            return
        for lane in list(self.lanes):
            if lane.wants_events:
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
            self._tools.dirty(self)

    def _resume(self, lane: Lane) -> None:
        lane.waiting = False
        self._work.set()

    def _gap(self, gap: Gap) -> None:
        log.warning("stream.gap id=%s after=%s reason=%s", self.endpoint.id, format_id(gap.requested), gap.reason)
        self._pending.outbox.append(self._notices.gap(gap))
        self._tools.dirty(self)

    # Committing.

    def sweep(self, oldest: int) -> None:
        """Have the position stored although nothing was delivered, and old log records dropped."""
        if self.main.low_water() != self._written:
            self._pending.oldest = oldest
            self._tools.dirty(self)

    def take_commit(self) -> Commit:
        """All that is to be written now; the pump begins a new one."""
        commit, self._pending = self._pending, Commit(self.endpoint.id, self.epoch)
        position = self.main.low_water()
        if position != self._written:
            commit.state["position"] = format_id(position)
        for lane in list(self.lanes):
            job = lane.progress()
            if job is not None:
                commit.replays[job.id] = job.dump()
                if job.status == "done":
                    self.lanes.remove(lane)
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
        self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._posts:
            await asyncio.wait(self._posts, timeout=patience)
        self.abandon()
        await asyncio.gather(self._task, return_exceptions=True)

    def abandon(self) -> None:
        """End at once: somebody else owns the endpoint."""
        self._running = False
        self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._posts):
            task.cancel()

    def facts(self) -> dict[str, Any]:
        """For metrics."""
        return {"position": self.main.low_water(), "retries": self.retries.count, "open": self.breaker.open}
