"""The pump of one endpoint: takes what has come in, posts it, settles it.

It runs on callbacks: an event that arrives at the tail is on the wire without a task switch in between, and an answer
sends the next one.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from gateway.bridge.alarm import Alarm
from gateway.bridge.attempt import Attempt
from gateway.bridge.breaker import Breaker
from gateway.bridge.courier import Courier, Result
from gateway.bridge.delivery import Delivery, Trigger
from gateway.bridge.endpoint import Endpoint
from gateway.bridge.flight import Flight
from gateway.bridge.health import Health
from gateway.bridge.hosts import Hosts
from gateway.bridge.intake import Intake
from gateway.bridge.job import Job
from gateway.bridge.lane import Lane
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
_AGED = 60_000
"""Milliseconds by which log records outlive their age where nothing else is to be written."""


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
        self.epoch = epoch
        self.feed = feed
        self._tools = tools
        self._dirty = dirty
        self._health = Health(endpoint, state.failing_since, tools.luck)
        self._hosts = Hosts(lambda: self.breaker.limit, tools.luck)
        self._held: tuple[Delivery, Lane | None] | None = None
        """What waits for room at its host."""
        self._equip(endpoint)
        self._pending = Commit(endpoint.id, epoch)
        self._written = state.position
        self._ahead = state.ahead.dump()
        self._dropped = 0
        self._running = True
        self._alarm = Alarm(tools.clock, self.kick)
        self._flights: set[Flight] = set()
        self._landed = asyncio.Event()
        self._intake = Intake(endpoint.id, wants, state, feed, tools, self)
        self.main = self._intake.lanes.main
        self.retries: Retries = self._intake.retries

    def _equip(self, endpoint: Endpoint) -> None:
        self._notices = Notices(endpoint, self._tools.clock)
        self._rate = Rate(endpoint.config.rate_limit)
        self._courier = Courier(endpoint, self._tools)

    @property
    def breaker(self) -> Breaker:
        """Whether it is being tried at all."""
        return self._health.breaker

    @property
    def in_flight(self) -> int:
        """Attempts under way."""
        return len(self._flights)

    def __repr__(self) -> str:
        state = "open" if self.breaker.open else "closed"
        return f"<Pump {self.endpoint.id} {state} in_flight={self.in_flight} at={format_id(self.main.low_water())}>"

    # What others tell it.

    def offer(self, event: Event) -> None:
        """An event at the tail that the endpoint wants."""
        # With all in flight the next answer takes it.
        if self.main.offer(event) and len(self._flights) < self.breaker.limit:
            self.kick()

    def fell(self, gap: Gap) -> None:
        """A hole at the tail."""
        self._intake.fell(gap)

    def suspend(self) -> None:
        """Go on from the log, not from what is in memory."""
        self._intake.suspend()

    def refresh(self, endpoint: Endpoint, wants: Callable[[Event], bool]) -> None:
        """The endpoint was changed."""
        self.endpoint = endpoint
        self.breaker.max_in_flight = endpoint.config.max_in_flight
        self._equip(endpoint)
        self._intake.wants = wants
        self._intake.suspend()  # what was queued was chosen by the filter of before

    def replay(self, job: Job) -> None:
        """A replay was asked for or changed."""
        self._intake.replay(job)

    def look(self) -> None:
        """The ledger was changed from outside: a resend."""
        self._intake.look()

    # What the intake tells it.

    def permits(self, now: float) -> bool:
        """Whether an attempt may start, as far as the endpoint's state goes."""
        return self._health.permits(now)

    def met(self, gap: Gap) -> None:
        """A hole in the log."""
        log.warning("stream.gap id=%s after=%s reason=%s", self.endpoint.id, format_id(gap.requested), gap.reason)
        self._pending.outbox.append(self._notices.gap(gap))
        self._dirty(self)

    def progressed(self) -> None:
        """A replay has moved."""
        self._dirty(self)

    # Starting.

    def kick(self) -> None:
        """Start what may be started; arrange for the rest."""
        if not self._running:
            return
        now = self._tools.clock.now()
        while self._may_start(now):
            taken, self._held = self._held or self._next(now), None
            if taken is None:
                break
            url = self._courier.brought(taken[0])
            if url is None or self._hosts.free(url):
                self._start(*taken, url, now)
            elif now < (until := self._hosts.hold_until(url, now)):
                self._held = taken
                self._alarm.set(until, now)
                break
            else:
                self._put_off(*taken, self._hosts.put_off(url, now), now)
        self._intake.fill(now)
        self._arm(now)

    def _may_start(self, now: float) -> bool:
        return (
            len(self._flights) < self.breaker.limit
            and self._health.permits(now)
            and self._rate.permits(now)
            and len(self._pending.deliveries) < _UNCOMMITTED
            and self._tools.may_send(self.endpoint.id)
        )

    def _next(self, now: float) -> tuple[Delivery, Lane | None] | None:
        """Retries first: they have waited longest. Then the endpoint's own lane, then replays."""
        ordered = self.endpoint.config.ordered
        if ordered and self._flights:
            return None
        if (delivery := self.retries.take()) is not None:
            return delivery, None
        if ordered and self.retries.any:
            return None
        if (taken := self._intake.lanes.take()) is None:
            return None
        event, lane = taken
        return self._delivery(event, lane.job, now), lane

    def _delivery(self, event: Event, job: Job | None, now: float) -> Delivery:
        trigger: Trigger = "event" if job is None else "replay"
        # The same event makes the same log entry, also when a crash has it delivered twice.
        name = f"log_{format_id(event.id)}" + ("" if job is None else f"-{job.id.removeprefix('rpl_')}")
        envelope = self.endpoint.config.dialect
        return Delivery(name, event, trigger, int(now * 1000), envelope=envelope)

    def _start(self, delivery: Delivery, lane: Lane | None, url: str | None, now: float) -> None:
        self._rate.spend(now)
        if url is not None:
            self._hosts.started(url, now)
        flight = Flight(delivery, lane, self._land)
        self._flights.add(flight)
        flight.sending = self._courier.start(delivery, now, flight.landed)

    def _put_off(self, delivery: Delivery, lane: Lane | None, wait: float, now: float) -> None:
        """Into the ledger, without an attempt."""
        delivery.due = math.ceil((now + wait) * 1000)
        self._note(delivery)
        if lane is not None:
            lane.settled(delivery.event.id, lane.life)

    def _arm(self, now: float) -> None:
        """Set the timer to when something may be possible that is not now."""
        times = []
        if self._health.quiet_until > now:
            times.append(self._health.quiet_until)
        if self.breaker.open:
            times.append(self.breaker.probe_at)
        if self.retries.next_due is not None:
            times.append(self.retries.next_due / 1000)
        if self._rate.next_at > now and (self._intake.lanes.queued or self.retries.ready):
            times.append(self._rate.next_at)
        at = min((time for time in times if time > now), default=0.0) if times else 0.0
        if at:
            self._alarm.set(at, now)

    # Settling.

    def _land(self, flight: Flight, result: Result) -> None:
        self._tools.failpoint("posted")
        self._flights.discard(flight)
        self._settle(flight.delivery, result)
        if flight.lane is not None:
            flight.lane.settled(flight.delivery.event.id, flight.life)
        if self._running:
            self.kick()
        elif not self._flights:
            self._landed.set()

    def _settle(self, delivery: Delivery, result: Result) -> None:
        attempt, outcome, own_url, now = result
        if own_url:
            self._learn(outcome, attempt, now)
        elif (url := delivery.event.webhook_url) is not None:
            self._hosts.ended(url, outcome, now)
        if outcome.status == "delivered":
            replies = self.endpoint.config.reply_stream
            if replies is not None:
                self._pending.outbox.append(reply(delivery, attempt, self.endpoint, replies))
        elif outcome.status == "failed":
            self._pending.outbox.append(self._notices.exhausted(delivery))
        self._note(delivery)

    def _note(self, delivery: Delivery) -> None:
        """Have it written as it is now."""
        self.retries.settled(delivery)
        self._pending.deliveries[delivery.id] = delivery
        self._dirty(self)

    def _learn(self, outcome: Outcome, attempt: Attempt, now: float) -> None:
        reason = self._health.learn(self.endpoint, outcome, attempt, now, self._notices, self._pending)
        if self.breaker.open:
            self._intake.lanes.suspend()
        if reason is not None and self._running:
            log.warning("endpoint.disabled id=%s reason=%s", self.endpoint.id, reason)
            self._running = False
            self._pending.outbox.append(self._notices.disabled(reason, attempt))
            self._tools.disable(self.endpoint, reason)

    # Committing.

    def sweep(self, oldest: int) -> None:
        """Have the position stored although nothing was delivered, and log records up to `oldest` (Unix ms) dropped."""
        if self.main.low_water() != self._written or oldest >= self._dropped + _AGED:
            self._pending.oldest = self._dropped = oldest
            self._dirty(self)

    def take_commit(self) -> Commit:
        """All that is to be written now; the pump begins a new one."""
        commit, self._pending = self._pending, Commit(self.endpoint.id, self.epoch)
        position = self.main.low_water()
        if position != self._written:
            commit.state["position"] = format_id(position)
        ahead = self.main.ahead().dump()
        if ahead != self._ahead:
            commit.state["ahead"] = self._ahead = ahead
        commit.replays.update((job.id, job.dump()) for job in self._intake.lanes.progress())
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
        return not self._flights and not self._pending

    # The end.

    async def stop(self, patience: float) -> None:
        """Start nothing more, and wait up to `patience` seconds for what is in flight."""
        self._running = False
        self._alarm.cancel()
        if self._flights:
            landed = asyncio.create_task(self._landed.wait())
            await asyncio.wait([landed], timeout=patience)
            landed.cancel()
        self.abandon()
        await self._intake.ended()

    def abandon(self) -> None:
        """End at once: somebody else owns the endpoint."""
        self._running = False
        self._intake.end()
        self._alarm.cancel()
        for flight in self._flights:
            flight.cancel()
        self._flights.clear()
