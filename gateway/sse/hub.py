"""All subscriptions of this process: opened here, moved between the lanes, counted, and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from gateway.events.filter import predicate
from gateway.events.position import format_position
from gateway.sse.cohort import CohortKey
from gateway.sse.connection import Connection, chunk
from gateway.sse.ending import DISCONNECTED, DRAIN, MAX_AGE, SLOW, Ending
from gateway.sse.frame import Wires
from gateway.sse.live import LiveLane
from gateway.sse.request import After, AtTime, EventsRequest, Last
from gateway.sse.subscriber import Meter, Subscriber, Timing
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap
from gateway.stream.log import Log

log = logging.getLogger("gateway.hub")


class HubMeter(Meter, Protocol):
    """Whoever counts."""

    def opened(self, representation: str) -> None: ...
    def closed(self, representation: str, reason: str) -> None: ...
    def replay(self, source: str) -> None: ...
    def fell_back(self) -> None: ...


class Hub:
    """Opens subscribers on `log`.

    `write_timeout` and `max_age` are seconds; a `max_age` of 0 means none.
    `sleep` is `asyncio.sleep`, given so that tests need not wait.
    """

    def __init__(
        self,
        log: Log,
        *,
        timing: Timing,
        meter: HubMeter,
        write_timeout: float = 30.0,
        max_age: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.log = log
        self.draining = False
        self._wires = Wires()
        self._timing = timing
        self._meter = meter
        self.write_timeout = write_timeout
        self._max_age = max_age
        self._sleep = sleep
        self._subscribers: set[Subscriber] = set()
        self._ages: dict[Subscriber, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lane = LiveLane(timing, meter, self._catch_up_later)

    def __len__(self) -> int:
        return len(self._subscribers)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(tuple(self._subscribers))

    def __repr__(self) -> str:
        return f"<Hub {len(self)} subscribers {self._lane!r}{' draining' if self.draining else ''}>"

    async def locate(self, request: EventsRequest) -> tuple[list[Cursor], list[Gap]]:
        """Cursors, one a stream in order of name, where `request` starts, and the gaps known there."""
        start, log = request.start, self.log
        if isinstance(start, Last):
            return await log.last(list(request.streams), start.n, predicate(request.filter)), []
        cursors: list[Cursor] = []
        gaps: list[Gap] = []
        for stream in request.streams:
            gap: Gap | None = None
            if isinstance(start, After) and stream in start.position:
                cursor, gap = await log.after(stream, start.position[stream])
            elif isinstance(start, AtTime):
                cursor, gap = await log.at_time(stream, start.ms)
            elif start == "earliest":
                cursor = await log.earliest(stream)
            else:
                cursor = await log.latest(stream)
            cursors.append(cursor)
            if gap is not None:
                gaps.append(gap)
        return cursors, gaps

    async def open(self, request: EventsRequest) -> Subscriber:
        """A subscriber standing where `request` starts; `enter` it when its response begins."""
        cursors, gaps = await self.locate(request)
        if request.start != "latest" and not all(cursor.at_tail for cursor in cursors):
            from_memory = all(cursor.reader.window.covers(cursor.position) for cursor in cursors)
            self._meter.replay("window" if from_memory else "redis")
        return self.subscriber(request, cursors, gaps)

    def at_tail(self, request: EventsRequest) -> list[Cursor] | None:
        """Where `request` starts, if it wants what is live from now on and memory alone can tell where that is."""
        return self.log.tails(request.streams) if request.start == "latest" and request.accept != "json" else None

    def subscriber(self, request: EventsRequest, cursors: Sequence[Cursor], gaps: Sequence[Gap] = ()) -> Subscriber:
        """One that stands at `cursors`."""
        assert request.accept != "json"
        wire = self._wires.get(request.accept, request.format, request.named)
        key = CohortKey(request.streams, request.filter, wire, request.control)
        return Subscriber(cursors, gaps, key, self._timing, self._meter)

    def enter(self, subscriber: Subscriber) -> None:
        """Count a subscription whose response begins."""
        self._subscribers.add(subscriber)
        self._meter.opened(subscriber.key.wire.representation)
        if self._max_age:
            # 80 to 100 %, so that connections made together do not all come back together.
            age = self._max_age * (0.8 + 0.2 * self._timing.jitter())
            loop = asyncio.get_running_loop()
            self._ages[subscriber] = loop.call_later(age, subscriber.end, MAX_AGE)
        if self.draining:
            subscriber.end(DRAIN)

    def leave(self, subscriber: Subscriber, ending: Ending) -> None:
        """Forget a subscription whose response is over."""
        if subscriber in self._subscribers:
            self._subscribers.discard(subscriber)
            if self._max_age:
                self._ages.pop(subscriber).cancel()
            self._meter.closed(subscriber.key.wire.representation, ending.reason)
            if subscriber.on_close is not None:
                subscriber.on_close()

    def adopt(self, subscriber: Subscriber, connection: Connection) -> None:
        """Serve `subscriber` over `connection`, whose response head is sent, until it ends. Returns at once."""
        subscriber.connection = connection
        subscriber.write = connection.writer()
        subscriber.descriptor = connection.descriptor()
        subscriber.on_leave = self._gone
        subscriber.on_end = self._end
        self.enter(subscriber)
        connection.take_over(subscriber)
        connection.write(chunk(subscriber.opening()))
        if not subscriber.gaps and subscriber.ending is None and self._lane.can_join(subscriber):
            self._arrive(subscriber)
        else:
            self._catch_up_later(subscriber)

    async def drain(self, seconds: float, grace: float = 3.0) -> None:
        """End each subscription at a random moment of the next `seconds`: they shall not come back all at once.

        Those whose client takes nothing are cut off `grace` seconds later; they resume by their last id.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        for subscriber in tuple(self._subscribers):
            loop.call_later(seconds * self._timing.jitter(), subscriber.end, DRAIN)
        left = seconds + grace
        while self._subscribers and left > 0:
            await self._sleep(0.05)
            left -= 0.05
        for subscriber in tuple(self._subscribers):
            if subscriber.connection is not None:
                subscriber.connection.abort()

    async def stop(self) -> None:
        """Drop everything."""
        await self._lane.stop()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _arrive(self, subscriber: Subscriber) -> None:
        block = subscriber.arrive()
        if block and subscriber.connection is not None:
            subscriber.connection.write(chunk(block))
        self._lane.join(subscriber)

    def _end(self, subscriber: Subscriber) -> None:
        if subscriber.cohort is not None:
            self._lane.end(subscriber)

    def _gone(self, subscriber: Subscriber) -> None:
        self._lane.leave(subscriber)
        self.leave(subscriber, subscriber.ending or DISCONNECTED)

    def _catch_up_later(self, subscriber: Subscriber) -> None:
        task = asyncio.create_task(self._catch_up(subscriber))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _catch_up(self, subscriber: Subscriber) -> None:
        """The catch-up lane: read by position, write, wait for the client, until it stands where the live lane is."""
        connection = subscriber.connection
        assert connection is not None
        readers = [cursor.reader for cursor in subscriber.cursors]
        for reader in readers:
            reader.users.add(subscriber)
        try:
            # In a turn of its own, so that the opening bytes leave in a write of their own.
            await asyncio.sleep(0)
            await self._send(subscriber, connection, subscriber.known_gaps())
            while subscriber.ending is None:
                if await self._step(subscriber, connection):
                    return
            if not subscriber.lost:
                await self._send(subscriber, connection, subscriber.farewell(subscriber.position))
                connection.finish()
        except Exception:
            log.exception("subscription.failed")
            subscriber.fail()
        finally:
            for reader in readers:
                reader.users.discard(subscriber)

    async def _step(self, subscriber: Subscriber, connection: Connection) -> bool:
        """One batch of each stream. True when the subscriber has joined the live lane."""
        moved = False
        for cursor in subscriber.cursors:
            upto = self._lane.stream(cursor).cursor.position
            block, read = await subscriber.read(cursor, upto)
            moved = moved or read
            await self._send(subscriber, connection, block)
        if subscriber.ending is None and not subscriber.paused and self._lane.can_join(subscriber):
            self._arrive(subscriber)
            return True
        await self._send(subscriber, connection, subscriber.tick())
        # The lane may be a step behind or ahead; a replay from memory never waits by itself.
        await asyncio.sleep(0 if moved else 0.005)
        return False

    async def _send(self, subscriber: Subscriber, connection: Connection, block: bytes) -> None:
        if not block or subscriber.lost:
            return
        connection.write(chunk(block))
        left = connection.buffered()
        while subscriber.paused and not subscriber.lost:
            if await subscriber.wait(self.write_timeout):
                # It took what was there, is gone, or is to end: then the rest goes out with the goodbye.
                return
            if connection.buffered() >= left:
                subscriber.end(SLOW)
                connection.abort()
                return
            left = connection.buffered()


def position_of(cursors: list[Cursor]) -> str:
    """Where these cursors stand together."""
    return format_position({cursor.stream: cursor.position for cursor in cursors})
