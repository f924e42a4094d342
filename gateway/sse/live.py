"""The live lane: each slice of a stream is rendered once a cohort and written to its members' sockets in one sweep.

No queue and no task per connection.  The lane has one cursor a stream; what it has read is the position of every
member.  A member whose socket takes nothing, or whose transport still has something, is dropped out of the lane at its
turn, with the position from before the slice, so nothing is lost and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from gateway.backend.connection import UNAVAILABLE
from gateway.events.event import Event, Skipped
from gateway.events.position import EventId, format_position
from gateway.sse.batch import Batch
from gateway.sse.breath import Breath
from gateway.sse.cohort import Cohort, CohortKey, Places
from gateway.sse.connection import chunk
from gateway.sse.livestream import LiveStream
from gateway.sse.subscriber import PASSED_OVER, Subscriber, Timing
from gateway.sse.sweep import Sweeper
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap
from gateway.stream.window import Item

log = logging.getLogger("gateway.live")

_TICK = 0.5
_CHOICE, _QUESTION, _GOODBYE = 0.04, 0.3, 4
"""What it costs to note that a cohort wants an event, to ask its filter, and to end a member (see `Breath`)."""


class LaneMeter(Protocol):
    """Whoever counts."""

    def wrote(self, events: int, size: int, *, replay: bool) -> None: ...
    def lagged(self, seconds: float) -> None: ...
    def gap(self, reason: str) -> None: ...
    def fell_back(self) -> None: ...


class LiveLane:
    """All cohorts, and the one task that feeds them. `fall_back` takes a member that could not keep up."""

    def __init__(self, timing: Timing, meter: LaneMeter, fall_back: Callable[[Subscriber], None]) -> None:
        self._timing = timing
        self._meter = meter
        self._fall_back = fall_back
        self._breath = Breath()
        self._sweeper = Sweeper(self._breath, self._drop)
        self._streams: dict[str, LiveStream] = {}
        self._cohorts: dict[CohortKey, Cohort] = {}
        self._quiet: OrderedDict[Cohort, None] = OrderedDict()  # by last write; a plain dict is slow to pop from
        self._ending: list[Subscriber] = []
        self._bell = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<LiveLane {len(self._streams)} streams, {len(self._cohorts)} cohorts>"

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def stream(self, cursor: Cursor) -> LiveStream:
        """The lane in the stream of `cursor`, opened at its tail if it is not open."""
        live = self._streams.get(cursor.stream)
        if live is None:
            live = self._streams[cursor.stream] = LiveStream(cursor.fork_at_tail())
            cursor.reader.listeners.add(self._bell.set)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live-lane")
        return live

    def position(self, streams: tuple[str, ...]) -> dict[str, EventId]:
        """Where the members of these streams stand."""
        return {name: self._streams[name].cursor.position for name in streams}

    def _places(self, streams: tuple[str, ...]) -> Places:
        return {name: self._streams[name].cursor.place for name in streams}

    def can_join(self, subscriber: Subscriber) -> bool:
        """Whether it stands exactly where the lane stands, in every one of its streams."""
        return all(cursor.stands_with(self.stream(cursor).cursor) for cursor in subscriber.cursors)

    def join(self, subscriber: Subscriber) -> None:
        """Take in one that `can_join`. It gives its cursors up."""
        key = subscriber.key
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = Cohort(key, self._timing.clock(), self._seen(key))
            self._quiet[cohort] = None
            for name in key.streams:
                self._streams[name].routes.add(cohort)
        subscriber.cohort = cohort
        subscriber.seen_at_join = cohort.seen_at_join = self._seen(key)
        subscriber.cursors = ()
        cohort.place(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Let one go: it is gone, or falls back."""
        cohort, subscriber.cohort = subscriber.cohort, None
        if cohort is None:
            return
        cohort.remove(subscriber)
        if not len(cohort):
            del self._cohorts[cohort.key], self._quiet[cohort]
            for name in cohort.key.streams:
                live = self._streams[name]
                live.routes.remove(cohort)
                self._close_unused(live)

    def end(self, subscriber: Subscriber) -> None:
        """Say goodbye to a member between two batches, when its position is certain."""
        self._ending.append(subscriber)
        self._bell.set()

    def _seen(self, key: CohortKey) -> int:
        return sum(self._streams[name].seen for name in key.streams)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            timer = loop.call_later(_TICK, self._bell.set)
            await self._bell.wait()
            timer.cancel()
            self._bell.clear()
            try:
                await self._turn()
            except UNAVAILABLE:
                await asyncio.sleep(_TICK * self._timing.jitter())
                self._bell.set()
            except Exception:
                log.exception("live.failed")
                await asyncio.sleep(_TICK)

    async def _turn(self) -> None:
        moved = True
        while moved:
            moved = False
            for live in tuple(self._streams.values()):
                moved = await self._advance(live) or moved
            await self._say_goodbye()
            await self._keep_alive()
        for live in tuple(self._streams.values()):
            self._close_unused(live)

    def _close_unused(self, live: LiveStream) -> None:
        if not len(live.routes) and self._streams.get(live.name) is live:
            live.cursor.reader.listeners.discard(self._bell.set)
            del self._streams[live.name]

    async def _advance(self, live: LiveStream) -> bool:
        before = live.cursor.place
        items = await live.take()
        if not items:
            return False
        batch = Batch(live.name, items, live.cursor.source, live.cursor.index, self._breath)
        standing: dict[tuple[str, ...], tuple[Places, int]] = {}
        events = size = 0
        for cohort, chosen in (await self._route(live, items)).items():
            if not len(cohort):
                continue  # and with its last member its streams may have been closed
            streams = cohort.key.streams
            if streams not in standing:
                standing[streams] = {**self._places(streams), live.name: before}, self._seen(cohort.key)
            places, seen = standing[streams]
            try:
                rendered = await batch.render(cohort.key, chosen, places)
                # Not to those who have joined since the slice was taken: they stand after it.
                written = await self._sweeper.sweep(cohort.audience(places, seen - len(items)), rendered.data)
            except Exception:
                log.exception("live.failed %r", cohort)
                self._cut_off(cohort)
                continue
            cohort.seen_at_id = seen
            self._touch(cohort)
            events += rendered.events * written
            size += rendered.size * written
        self._meter.wrote(events, size, replay=False)
        self._meter.lagged(self._timing.clock() - live.cursor.reader.read_at)
        return True

    async def _route(self, live: LiveStream, items: list[Item]) -> dict[Cohort, list[int]]:
        """Who gets which of the items, by offset."""
        touched: dict[Cohort, list[int]] = {}
        for at, item in enumerate(items):
            asked = live.routes.asked
            if isinstance(item, Event):
                wanting = live.routes.to(item.tenant, item.channel, item.type)
            else:
                wanting = await self._concerned(live, item)
            for cohort in wanting:
                chosen = touched.get(cohort)
                if chosen is None:
                    touched[cohort] = [at]
                else:
                    chosen.append(at)
            await self._breath.spend(len(wanting) * _CHOICE + (live.routes.asked - asked) * _QUESTION)
        return touched

    async def _concerned(self, live: LiveStream, item: Gap | Skipped) -> list[Cohort]:
        """Who is told of a hole, or of an entry that breaks a rule."""
        if isinstance(item, Gap):
            self._meter.gap(item.reason)
        found = []
        for cohort in live.routes:
            if cohort.key.control and (isinstance(item, Gap) or cohort.key.filter.could_accept(item)):
                found.append(cohort)
            await self._breath.spend(_QUESTION)
        return found

    def _cut_off(self, cohort: Cohort) -> None:
        """Whatever went wrong, its members must not go on as if they had the slice: they resume by their last id."""
        for member in (*cohort.by_descriptor.values(), *cohort.by_transport):
            self.leave(member)
            member.fail()

    def _drop(self, member: Subscriber, places: Places) -> None:
        """Out of the lane, with cursors where it was left."""
        member.cursors = tuple(self._streams[name].cursor.fork(place) for name, place in sorted(places.items()))
        self.leave(member)
        self._meter.fell_back()
        self._fall_back(member)

    def _touch(self, cohort: Cohort) -> None:
        cohort.last_write = self._timing.clock()
        if cohort in self._quiet:
            self._quiet.move_to_end(cohort)

    async def _say_goodbye(self) -> None:
        ending, self._ending = self._ending, []
        for member in ending:
            cohort = member.cohort
            if cohort is None:
                continue
            farewell = member.farewell(format_position(self.position(cohort.key.streams)))
            self.leave(member)
            with suppress(RuntimeError):
                if farewell:
                    member.write(chunk(farewell))  # type: ignore[misc]
                if member.connection is not None:
                    member.connection.finish()
            await self._breath.spend(_GOODBYE)

    def _due(self) -> Iterator[Cohort]:
        """The cohorts to which nothing was written for the heartbeat interval."""
        latest = self._timing.clock() - self._timing.heartbeat
        while self._quiet:
            cohort = next(iter(self._quiet))
            if cohort.last_write > latest:
                return
            self._touch(cohort)
            yield cohort

    async def _keep_alive(self) -> None:
        for cohort in self._due():
            seen, places = self._seen(cohort.key), self._places(cohort.key.streams)
            audience = cohort.audience(places, seen)
            if cohort.key.control and seen - cohort.seen_at_id >= PASSED_OVER:
                cohort.seen_at_id = seen
                text = format_position(self.position(cohort.key.streams))
                news = cohort.key.wire.control("gateway.position", {"position": text}, text)
                told, audience = audience.split(seen - PASSED_OVER)
                await self._sweeper.sweep(told, chunk(news))
            # Who has not taken one byte for a whole interval is dropped: the catch-up lane has the clock that aborts.
            await self._sweeper.sweep(audience, chunk(cohort.key.wire.heartbeat))
