"""All subscriptions of this process: opened here, counted, and ended together when the process drains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.events.filter import predicate
from gateway.events.position import format_position
from gateway.sse.ending import DRAIN, Ending
from gateway.sse.frame import Wires
from gateway.sse.request import After, AtTime, EventsRequest, Last
from gateway.sse.subscriber import Meter, Subscriber, Timing
from gateway.stream.cursor import Cursor
from gateway.stream.gap import Gap
from gateway.stream.log import Log


class HubMeter(Meter, Protocol):
    """Whoever counts."""

    def opened(self, representation: str) -> None: ...
    def closed(self, representation: str, reason: str) -> None: ...
    def replay(self, source: str) -> None: ...


class Hub:
    """Opens subscribers on `log`. `sleep` is `asyncio.sleep`, given so that tests need not wait."""

    def __init__(
        self,
        log: Log,
        *,
        timing: Timing,
        meter: HubMeter,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.log = log
        self.draining = False
        self._wires = Wires()
        self._timing = timing
        self._meter = meter
        self._sleep = sleep
        self._subscribers: set[Subscriber] = set()

    def __len__(self) -> int:
        return len(self._subscribers)

    def __repr__(self) -> str:
        return f"<Hub {len(self)} subscribers{' draining' if self.draining else ''}>"

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
        if not all(cursor.at_tail for cursor in cursors):
            from_memory = all(cursor.reader.window.covers(cursor.position) for cursor in cursors)
            self._meter.replay("window" if from_memory else "redis")
        assert request.accept != "json"
        wire = self._wires.get(request.accept, request.format, request.named)
        return Subscriber(
            cursors, gaps, request.filter, wire, control=request.control, timing=self._timing, meter=self._meter
        )

    def enter(self, subscriber: Subscriber) -> None:
        """Count a subscription whose response begins."""
        self._subscribers.add(subscriber)
        self._meter.opened(subscriber.wire.representation)
        if self.draining:
            subscriber.end(DRAIN)

    def leave(self, subscriber: Subscriber, ending: Ending) -> None:
        """Forget a subscription whose response is over."""
        if subscriber in self._subscribers:
            self._subscribers.discard(subscriber)
            self._meter.closed(subscriber.wire.representation, ending.reason)

    async def drain(self, seconds: float) -> None:
        """End each subscription at a random moment of the next `seconds`: they shall not come back all at once."""
        self.draining = True
        loop = asyncio.get_running_loop()
        for subscriber in tuple(self._subscribers):
            loop.call_later(seconds * self._timing.jitter(), subscriber.end, DRAIN)
        await self._sleep(seconds)


def position_of(cursors: list[Cursor]) -> str:
    """Where these cursors stand together."""
    return format_position({cursor.stream: cursor.position for cursor in cursors})
